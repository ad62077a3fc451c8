"""Gradient ascent on the forget set, alone and with descent on the retain set.

lm = mean NLL per answer token, in nats; f and r = forget and retain.
"""

from __future__ import annotations

from dataclasses import dataclass

from pipeline_lib.data.batching import Batch
from pipeline_lib.objectives.base import Losses, Objective, mean_nll
from pipeline_lib.objectives.retain import TwoTerms


@dataclass(frozen=True)
class GradAscent(Objective):
    """L = -lm_f (Jang et al. 2023, arXiv 2210.01504). Unbounded below: it diverges without a stop."""

    uses_retain = False

    def __call__(self, model, forget: Batch | None, retain: Batch | None) -> Losses:
        assert forget is not None
        loss = mean_nll(model, forget)
        return Losses(-loss, loss.detach(), None)


@dataclass(frozen=True)
class GradDiff(TwoTerms):
    """L = -forget_weight lm_f + gamma retain (Liu et al. 2022, arXiv 2203.12817; SOUL eq. 5, 2404.18239)."""

    gamma: float

    def __call__(self, model, forget: Batch | None, retain: Batch | None) -> Losses:
        assert forget is not None and retain is not None
        forget_loss, (kept, retain_loss) = mean_nll(model, forget), self.retain_term(model, retain)
        total = self.forget_weight * -forget_loss + self.gamma * kept
        return Losses(total, forget_loss.detach(), retain_loss)
