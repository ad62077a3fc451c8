"""From the settings of a run to how its steps are taken."""

from __future__ import annotations

from importlib import import_module
from typing import cast

import torch

from pipeline_lib.core.errors import UserError
from pipeline_lib.distributed.group import Group
from pipeline_lib.optimizers import Optimizer
from pipeline_lib.training.batches import Course
from pipeline_lib.training.settings import Unlearn
from pipeline_lib.training.updates import Update, gradient_update


def make_update(
    method: Optimizer, model: torch.nn.Module, course: Course, training: Unlearn, group: Group
) -> Update:
    """How an optimiser changes this model over the course of a run.

    The plain update (`training.updates`) where the optimiser names no module of its own (`taken_by`), else
    what the `TAKES` of that module makes of the same arguments.
    """
    if training.offload and method.on_device is not None:
        raise UserError(f"`unlearn.offload` is of no use to {method.kind}: {method.on_device}; leave it out")
    if method.taken_by is not None:
        return cast("Update", import_module(method.taken_by).TAKES(method, model, course, training, group))
    rounding = training.weights == "bf16_stochastic"
    return gradient_update(
        method, model, training.max_grad_norm, group, rounding, training.offload, course.steps
    )
