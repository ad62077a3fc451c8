"""Primal-dual unlearning: flat logits on the forget set, under a constraint on the retain loss."""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F

from pipeline_lib.data.batching import Batch
from pipeline_lib.models.forward import answer_hidden, over_vocabulary
from pipeline_lib.objectives.base import Losses, Objective, mean_nll, share_of_step


@dataclass
class PDU(Objective):
    """L = mean_t (max_k z_k - mean_k z_k)^2 + dual (lm_r - retain_bound).

    Source: Entesari et al. 2025, arXiv 2506.05314: minimise the spread of the logits z (V,) that predict
    the forget answers, subject to lm_r <= retain_bound (nats a token). After each optimiser step
    dual <- max(0, dual + dual_step (lm_r - retain_bound)), with lm_r of that step, once `dual_warmup`
    steps are over. The mean is over all answer tokens of the step. The first term is in squared logits and
    large, hence the large `dual_start` of the paper. `retain_bound` must lie a little above the retain loss
    of the model before unlearning, else `dual` grows without end.
    """

    retain_bound: float
    dual_start: float
    dual_step: float
    dual_warmup: int

    def __post_init__(self) -> None:
        self.dual = self.dual_start
        self.steps = 0

    def __call__(self, model, forget: Batch | None, retain: Batch | None) -> Losses:
        assert forget is not None and retain is not None

        def sums(logits, targets):
            spread = (logits.amax(-1) - logits.mean(-1)).square().sum()
            return spread, F.cross_entropy(logits.detach(), targets, reduction="sum")

        hidden, targets, _ = answer_hidden(model, forget)
        spread, forget_loss = (
            value / forget.tokens_in_step
            for value in over_vocabulary(model.get_output_embeddings(), hidden, sums, targets)
        )
        retain_loss = mean_nll(model, retain)
        excess = retain_loss - self.retain_bound * share_of_step(retain)
        return Losses(spread + self.dual * excess, forget_loss, retain_loss.detach())

    def after_step(self, losses: dict[str, float]) -> None:
        self.steps += 1
        if self.steps > self.dual_warmup:
            self.dual = max(0.0, self.dual + self.dual_step * (losses["retain_loss"] - self.retain_bound))

    def state(self) -> dict[str, float]:
        return {"dual": self.dual, "steps": self.steps}

    def restore(self, state: dict[str, float]) -> None:
        self.dual, self.steps = state["dual"], int(state["steps"])
