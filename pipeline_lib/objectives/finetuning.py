"""Ordinary training on the retain set alone."""

from __future__ import annotations

from typing import Any, ClassVar

from pipeline_lib.objectives.base import Batch, Losses, Objective, mean_nll


class FineTuning(Objective):
    """L = lm_r: mean NLL per answer token of the training data, handed over as the retain batch.

    It makes the `target` and the `retrained` model; no suite chooses it.
    """

    kind: str = "FineTuning"

    uses_forget: ClassVar[bool] = False

    def loss_of(self, model: Any, forget: Batch | None, retain: Batch | None) -> Losses:
        assert retain is not None
        loss = mean_nll(model, retain)
        return Losses(loss, None, loss.detach())
