"""Pretraining in the words of the training loop. Readable without torch."""

from __future__ import annotations

import math

from pipeline_lib.models.pretrain_settings import Pretrain
from pipeline_lib.training.settings import FineTune

_SAME = {"batch_size", "accumulation", "learning_rate", "weight_decay", "warmup", "decay", "max_grad_norm"}
_SAME |= {"compute", "checkpoint_seconds"}


def as_fine_tuning(settings: Pretrain, steps: int, windows: int) -> FineTune:
    """The settings of the loop: as many epochs of so many windows as make these steps."""
    return FineTune(epochs=steps / math.ceil(windows / settings.size), **settings.model_dump(include=_SAME))
