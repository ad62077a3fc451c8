"""Objectives and optimisers from their settings, as tests write them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch

from pipeline_lib.curvature import ESTIMATORS, Estimator
from pipeline_lib.distributed.group import ALONE, Group
from pipeline_lib.influence import SOLVERS, Solver
from pipeline_lib.objectives import OBJECTIVES, Objective
from pipeline_lib.objectives.base import ReferenceModel
from pipeline_lib.objectives.finetuning import FineTuning
from pipeline_lib.optimizers import OPTIMIZERS, make


def make_objective(kind: str, reference_model: ReferenceModel | None = None, **settings: Any) -> Objective:
    """The objective; `reference_model` gives it the model before unlearning."""
    given = {"kind": kind, **settings}
    objective = FineTuning() if kind == "FineTuning" else OBJECTIVES.parse(given)
    return objective if reference_model is None else objective.with_reference_model(reference_model)


def changed(objective: Objective, **settings: Any) -> Objective:
    """The objective with other settings and the same reference model."""
    made = type(objective).model_validate({**dict(objective), **settings})
    reference = objective._reference_model
    return made if reference is None else made.with_reference_model(reference)


def make_optimizer(
    kind: str,
    model: torch.nn.Module,
    stochastic_rounding: bool = False,
    offload: bool = False,
    group: Group = ALONE,
    **settings: Any,
) -> Any:
    """The torch optimiser of a model."""
    method = OPTIMIZERS.parse({"kind": kind, **settings})
    return make.make_optimizer(method, model, stochastic_rounding, offload, group)


def stepper(kind: str, params: Iterable[torch.Tensor], lr: float, **settings: Any) -> Any:
    """The torch optimiser over these parameters, one group."""
    method = OPTIMIZERS.parse({"kind": kind, "learning_rate": lr, **settings})
    return method.build([{"params": list(params)}], ALONE)


def estimator(kind: str) -> Estimator:
    return ESTIMATORS.parse({"kind": kind})


def solver(kind: str) -> Solver:
    return SOLVERS.parse({"kind": kind})
