"""Gradient ascent on the forget set alone."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pipeline_lib.objectives.base import Batch, Losses, Objective, mean_nll


class GradAscent(Objective):
    """L = -lm_f (Jang et al. 2023, arXiv 2210.01504). Unbounded below: it diverges without a stop.

    lm_f: mean NLL per answer token of the forget set, in nats.
    """

    kind: Literal["GradAscent"]

    uses_retain: ClassVar[bool] = False
    terms_apart: ClassVar[bool] = True

    def loss_of(self, model: Any, forget: Batch | None, retain: Batch | None) -> Losses:
        assert forget is not None
        loss = mean_nll(model, forget)
        return Losses(-loss, loss.detach(), None, -loss)
