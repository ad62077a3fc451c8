"""Gradient ascent on the forget set with descent on the retain set."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from pipeline_lib.core.blocks import NonNegative
from pipeline_lib.objectives.base import Batch, Losses, mean_nll
from pipeline_lib.objectives.retain import RETAIN, TwoTerms


class GradDiff(TwoTerms):
    """L = -forget_weight lm_f + gamma retain (Liu et al. 2022, arXiv 2203.12817; SOUL eq. 5, 2404.18239).

    lm_f: mean NLL per answer token of the forget set, in nats.
    """

    kind: Literal["GradDiff"]
    gamma: NonNegative = Field(1.0, description=RETAIN)

    def loss_of(self, model: Any, forget: Batch | None, retain: Batch | None) -> Losses:
        assert forget is not None and retain is not None
        forget_loss = mean_nll(model, forget)
        return self.losses(-forget_loss, forget_loss, self.gamma, model, retain)
