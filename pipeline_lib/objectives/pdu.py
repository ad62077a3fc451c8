"""Primal-dual unlearning: flat logits on the forget set, under a constraint on the retain loss."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from pipeline_lib.data.batching import IGNORED, Batch
from pipeline_lib.models.forward import answer_hidden, last_hidden, over_vocabulary
from pipeline_lib.models.head import output_head
from pipeline_lib.objectives.base import Losses, ReferenceModel, share_of_step
from pipeline_lib.objectives.retain import Retaining


@dataclass
class PDU(Retaining):
    """L = forget_weight mean_t (max_k z_k - mean_k z_k)^2 + dual (retain - retain_bound).

    Source: Entesari et al. 2025, arXiv 2506.05314: minimise the spread of the logits z (V,) that predict
    the forget answers, subject to retain <= retain_bound (nats a token). After each optimiser step
    dual <- max(0, dual + dual_step (retain - retain_bound)), with the retain term of that step, once
    `dual_warmup` steps are over. The mean is over all answer tokens of the step. The first term is in squared
    logits and large, hence the large `dual_start` of the paper. `retain_bound` must lie a little above the
    retain loss of the model before unlearning, else `dual` grows without end.

    `dual_update_upon` "epoch": `dual` changes where an epoch ends, by the mean of the retain terms of the
    steps since its last change. `positions` "holding", as OpenUnlearning has it, flattens the logits of the
    positions that hold an answer token: the prediction after each of them, in place of the one of it. The
    retain loss in the log is the term that is bounded, with `retain_loss_type` "KL" the divergence.
    """

    retain_bound: float
    dual_start: float
    dual_step: float
    dual_warmup: int
    dual_update_upon: str = "step"
    positions: str = "predicting"
    forget_weight: float = 1.0
    retain_loss_type: str = "NLL"
    reference_model: ReferenceModel | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self.dual = self.dual_start
        self.steps = 0
        self.epoch, self.waiting, self.excess = 0.0, 0, 0.0  # epochs done; steps since a change, their excess

    def __call__(self, model, forget: Batch | None, retain: Batch | None) -> Losses:
        assert forget is not None and retain is not None
        spread, forget_loss = self._spread(model, forget)
        kept, _ = self.retain_term(model, retain)
        excess = kept - self.retain_bound * share_of_step(retain)
        return Losses(self.forget_weight * spread + self.dual * excess, forget_loss, kept.detach())

    def _spread(self, model, forget: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """This batch's share of the mean spread, and of the mean NLL (scalars)."""
        head = output_head(model)

        def sums(logits, targets):
            spread = (logits.amax(-1) - logits.mean(-1)).square().sum()
            return spread, F.cross_entropy(logits.detach(), targets, reduction="sum")

        if self.positions == "predicting":
            hidden, targets, _ = answer_hidden(model, forget)
            spread, nll = over_vocabulary(head, hidden, sums, targets)
        else:
            hidden, labels = last_hidden(model, forget), forget.labels  # (B, T, D), (B, T)
            held, predicting = labels != IGNORED, labels[:, 1:] != IGNORED
            spread, _ = over_vocabulary(head, hidden[held], sums, labels[held])
            with torch.no_grad():
                _, nll = over_vocabulary(head, hidden[:, :-1][predicting], sums, labels[:, 1:][predicting])
        return spread / forget.tokens_in_step, nll / forget.tokens_in_step

    def after_step(self, losses: dict[str, float]) -> None:
        self.steps += 1
        excess, due = losses["retain_loss"] - self.retain_bound, True
        if self.dual_update_upon == "epoch":
            self.waiting, self.excess = self.waiting + 1, self.excess + excess
            due = int(losses["epoch"]) > int(self.epoch)
            self.epoch, excess = losses["epoch"], self.excess / self.waiting
        if not due:
            return
        self.waiting, self.excess = 0, 0.0
        if self.steps > self.dual_warmup:
            self.dual = max(0.0, self.dual + self.dual_step * excess)

    def state(self) -> dict[str, float]:
        kept: dict[str, float] = {"dual": self.dual, "steps": self.steps}
        if self.dual_update_upon == "epoch":
            kept |= {"epoch": self.epoch, "waiting": self.waiting, "excess": self.excess}
        return kept

    def restore(self, state: dict[str, float]) -> None:
        self.dual, self.steps = state["dual"], int(state["steps"])
        if self.dual_update_upon == "epoch":
            self.epoch, self.waiting, self.excess = state["epoch"], int(state["waiting"]), state["excess"]
