"""Objectives and optimisers from their settings, as tests write them."""

from __future__ import annotations

from typing import Any

from pipeline_lib.objectives import OBJECTIVES, Objective
from pipeline_lib.objectives.base import ReferenceModel
from pipeline_lib.objectives.finetuning import FineTuning


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
