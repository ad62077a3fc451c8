"""Every objective that is trained, with settings for a tiny model, and what its runs need besides."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from typing import Any

import torch

from pipeline_lib.objectives import OBJECTIVES, Objective
from pipeline_lib.steps.objective_data import with_reference_nll
from pipeline_lib.training.batches import MiniBatches, WholeSets
from pipeline_lib.training.data import TrainingData
from pipeline_lib.training.settings import Training
from tests.methods import make_objective
from tests.tiny import VOCAB, make_examples, tiny_model

TRAINED = sorted(kind for kind, objective in OBJECTIVES.kinds().items() if objective.trained)
SETTINGS: dict[str, dict[str, Any]] = {  # where the defaults do not fit a tiny model or tests
    "GradDiff": {"gamma": 0.7},
    "RMU": {"layer": 1, "update_layers": 2, "steering": 2.0, "alpha": 0.7},
    "PDU": {"retain_bound": 1.0, "dual_start": 2.0, "dual_step": 0.5, "dual_warmup": 1},
    "L1Sparse": {"strength": 1e-4},
    "WHP": {"reinforce_epochs": 1, "reinforce_learning_rate": 1e-2},
}


# Weights or targets follow the model but count as constants: the loss is not what the gradient is of.
DETACHED = {"CEU", "WGA", "SatImp"}


def settings_of(kind: str, **changes: Any) -> dict[str, Any]:
    """All settings of this kind, `kind` included."""
    given = {"kind": kind, **SETTINGS.get(kind, {}), **changes}
    return OBJECTIVES.parse(given).model_dump()


def objective_of(kind: str, reference: Any = None, **changes: Any) -> Objective:
    """The objective; `reference`: the model before unlearning, by default some other one."""
    objective = make_objective(**settings_of(kind, **changes))
    if objective.needs_reference_model:
        frozen = (reference or tiny_model(1)).requires_grad_(False)
        objective = objective.with_reference_model(partial(nullcontext, frozen))
    return objective


def freeze(objective: Objective, model: torch.nn.Module) -> None:
    """Leave to learn what the objective trains."""
    names = objective.trainable(model)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(names is None or name in names)


def data_for(
    objective: Objective,
    model: torch.nn.Module,
    plain: TrainingData,
    settings: Training | None = None,
    seed: int = 3,
) -> TrainingData:
    """`plain` with two and three alternatives a row, numbers of `model`, and labels, as the objective wants.

    Without `settings` for one step over the whole set.
    """
    rows = len(plain.forget)
    if objective.forget_answers != "answer":
        drawn = [make_examples([(4, n)] * rows, seed=n) for n in (3, 5, 6)]
        options = [tuple(column)[: 2 + i % 2] for i, column in enumerate(zip(*drawn, strict=True))]
        plain = replace(plain, forget_alternatives=options, paired=objective.forget_answers == "both")
    if objective.needs_reference_nll:
        whole = WholeSets(plain, Training(), seed, objective)
        course = whole if settings is None else MiniBatches(plain, settings, seed)
        plain = with_reference_nll(model, plain, course)
    if objective.needs_generic_labels:
        labels = [[(7 * token) % VOCAB for token in e.tokens[e.prompt_length :]] for e in plain.forget]
        plain = replace(plain, forget_labels=labels)
    return plain
