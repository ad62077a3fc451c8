"""Primal-dual unlearning: flat logits on the forget set, under a constraint on the retain loss."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from pipeline_lib.core.blocks import CountOrZero, NonNegative
from pipeline_lib.objectives.base import Batch, Losses, Tensor, share_of_step
from pipeline_lib.objectives.retain import POSITIONS, TwoTerms, of_terms, option


class PDU(TwoTerms):
    """L = forget_weight mean_t (max_k z_k - mean_k z_k)^2 + dual (retain - retain_bound).

    Source: Entesari et al. 2025, arXiv 2506.05314: minimise the spread of the logits z (V,) that predict
    the forget answers, subject to retain <= retain_bound (nats a token). After each optimiser step
    dual <- max(0, dual + dual_step (retain - retain_bound)), with the retain term of that step, once
    `dual_warmup` steps are over. The mean is over all answer tokens of the step. The first term is in squared
    logits and large, hence the large `dual_start` of the paper. `retain_bound` must lie a little above the
    retain loss of the model before unlearning, else `dual` grows without end.

    `dual_update_upon` "epoch": `dual` changes where an epoch ends, by the mean of the retain terms of the
    steps since its last change. `positions` "holding", as OpenUnlearning has it, flattens the logits of the
    positions that hold an answer token: what is predicted after the token, not the token itself. The retain
    loss in the log is the bounded term, with `retain_loss_type` "KL" the divergence.

    Defaults are those of the paper's runs on TOFU, which start to change the weight after five epochs.
    """

    kind: Literal["PDU"]
    retain_bound: NonNegative = Field(
        0.3, description="Retain loss (nats a token) that is allowed; a little above the original model's"
    )
    dual_start: NonNegative = Field(100.0, description="Weight of the retain constraint at the start")
    dual_step: NonNegative = Field(5.0, description="Its change a step, for each nat of violation")
    dual_warmup: CountOrZero = Field(0, description="Steps before it changes")
    dual_update_upon: Literal["step", "epoch"] = option(
        "step", "When it changes; an epoch's change follows the mean of its steps' retain losses"
    )
    positions: Literal["predicting", "holding"] = option("predicting", POSITIONS)

    _dual: float = 0.0
    _steps: int = 0
    _epoch: float = 0.0  # epochs done
    _waiting: int = 0  # steps since the last change
    _excess: float = 0.0  # of the retain terms of these steps, summed

    def model_post_init(self, context: Any) -> None:
        self._dual = self.dual_start

    def loss_of(self, model: Any, forget: Batch | None, retain: Batch | None) -> Losses:
        assert forget is not None and retain is not None
        spread, forget_loss = self._spread(model, forget)
        kept, _ = self.retain_term(model, retain)
        excess = kept - self.retain_bound * share_of_step(retain)
        return of_terms(self.forget_weight * spread, self._dual * excess, forget_loss, kept.detach())

    def _spread(self, model, forget: Batch) -> tuple[Tensor, Tensor]:
        """This batch's share of the mean spread, and of the mean NLL (scalars)."""
        import torch
        import torch.nn.functional as F

        from pipeline_lib.data.batching import IGNORED
        from pipeline_lib.models.forward import answer_hidden, last_hidden, over_vocabulary
        from pipeline_lib.models.head import output_head

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
        self._steps += 1
        excess, due = losses["retain_loss"] - self.retain_bound, True
        if self.dual_update_upon == "epoch":
            self._waiting, self._excess = self._waiting + 1, self._excess + excess
            due = int(losses["epoch"]) > int(self._epoch)
            self._epoch, excess = losses["epoch"], self._excess / self._waiting
        if not due:
            return
        self._waiting, self._excess = 0, 0.0
        if self._steps > self.dual_warmup:
            self._dual = max(0.0, self._dual + self.dual_step * excess)

    def state(self) -> dict[str, float]:
        kept: dict[str, float] = {"dual": self._dual, "steps": self._steps}
        if self.dual_update_upon == "epoch":
            kept |= {"epoch": self._epoch, "waiting": self._waiting, "excess": self._excess}
        return kept

    def restore(self, state: dict[str, float]) -> None:
        self._dual, self._steps = state["dual"], int(state["steps"])
        if self.dual_update_upon == "epoch":
            self._epoch, self._waiting, self._excess = state["epoch"], int(state["waiting"]), state["excess"]
