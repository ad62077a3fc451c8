"""Ordinary fine-tuning, which makes the `target` and the `retrained` model."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline_lib.data.batching import Batch
from pipeline_lib.objectives.base import Losses, Objective, mean_nll


@dataclass(frozen=True)
class FineTuning(Objective):
    """L = lm_r: mean NLL per answer token of the training data, handed over as the retain batch."""

    def __call__(self, model, forget: Batch | None, retain: Batch | None) -> Losses:
        assert retain is not None
        loss = mean_nll(model, retain)
        return Losses(loss, None, loss.detach())
