"""Gradient ascent on the forget set, alone and with descent on the retain set.

lm = mean NLL per answer token, in nats; f and r = forget and retain.
"""

from __future__ import annotations

from dataclasses import dataclass

from pipeline_lib.data.batching import Batch
from pipeline_lib.objectives.base import Losses, Objective, mean_nll


@dataclass(frozen=True)
class GradAscent(Objective):
    """L = -lm_f (Jang et al. 2023, arXiv 2210.01504). Unbounded below: it diverges without a stop."""

    uses_retain = False

    def __call__(self, model, forget: Batch | None, retain: Batch | None) -> Losses:
        assert forget is not None
        loss = mean_nll(model, forget)
        return Losses(-loss, loss.detach(), None)


@dataclass(frozen=True)
class GradDiff(Objective):
    """L = -lm_f + gamma lm_r (Liu et al. 2022, arXiv 2203.12817; SOUL eq. 5, arXiv 2404.18239)."""

    gamma: float

    def __call__(self, model, forget: Batch | None, retain: Batch | None) -> Losses:
        assert forget is not None and retain is not None
        forget_loss, retain_loss = mean_nll(model, forget), mean_nll(model, retain)
        return Losses(-forget_loss + self.gamma * retain_loss, forget_loss.detach(), retain_loss.detach())
