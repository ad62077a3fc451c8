"""Preference optimisation in SOUL's sense: learn to refuse instead of answering."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from pipeline_lib.data.batching import Batch
from pipeline_lib.objectives.base import Losses, Objective, mean_nll


@dataclass(frozen=True)
class PO(Objective):
    """L = CE(refusal given x_f) + gamma lm_r (SOUL eq. 6, arXiv 2404.18239; "IDK" in TOFU).

    The forget batch holds refusals, whole and with their end token (the released code loses the
    first word and never learns to stop).
    """

    gamma: float
    forget_answers: ClassVar[Literal["answer", "refusal"]] = "refusal"

    def __call__(self, model, forget: Batch | None, retain: Batch | None) -> Losses:
        assert forget is not None and retain is not None
        refusal_loss, retain_loss = mean_nll(model, forget), mean_nll(model, retain)
        return Losses(refusal_loss + self.gamma * retain_loss, refusal_loss.detach(), retain_loss.detach())
