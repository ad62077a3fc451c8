"""Every smoothing with settings for tiny models, and updates that use them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch

from pipeline_lib.distributed.group import ALONE, Group
from pipeline_lib.objectives import Objective
from pipeline_lib.objectives.base import Losses, share_of_step
from pipeline_lib.objectives.retain import of_terms
from pipeline_lib.optimizers import OPTIMIZERS
from pipeline_lib.smoothing import SMOOTHINGS, Smoothing
from pipeline_lib.training.batches import MiniBatches
from pipeline_lib.training.checkpoint import Kept
from pipeline_lib.training.loop import Judge, Outcome, train
from pipeline_lib.training.updates import GradientUpdate, Step, gradient_update
from tests.training.runs import data, settings

SETTINGS: dict[str, dict[str, Any]] = {
    "sam": {"rho": 0.1},
    "random_smoothing": {"sigma": 0.01, "draws": 2},
    "gradient_penalty": {"strength": 0.2, "distance": 0.05},
    "curvature_regularisation": {"strength": 0.2, "distance": 0.05},
    "weight_averaging": {"start": 2, "every": 2},
}
RELEASED = ("gradient_penalty", "curvature_regularisation")  # those with a form as released
EVERY: list[tuple[str, dict[str, Any]]] = [
    *SETTINGS.items(),
    *((kind, {**SETTINGS[kind], "form": "as_released"}) for kind in RELEASED),
]


def smoothing_of(kind: str, **changes: Any) -> Smoothing:
    return SMOOTHINGS.parse({"kind": kind, **SETTINGS[kind], **changes})


def update_of(
    model: torch.nn.Module,
    smoothing: Smoothing | None,
    optimizer: str = "sgd",
    steps: int = 6,
    group: Group = ALONE,
    **changes: Any,
) -> GradientUpdate:
    """Plain steps of `optimizer` (without momentum: w - 0.1 g) that are never clipped, smoothed."""
    plain = {"sgd": {"momentum": 0.0, "learning_rate": 0.1}}.get(optimizer, {"learning_rate": 1e-2})
    chosen = {} if smoothing is None else {"smoothing": smoothing.model_dump()}
    method = OPTIMIZERS.parse({"kind": optimizer, **plain, **chosen, **changes})
    return gradient_update(method, model, 1e9, group, steps=steps)


def trained(
    model: torch.nn.Module,
    objective: Objective,
    smoothing: Smoothing | None,
    folder: Path,
    judge: Judge | None = None,
    optimizer: str = "sgd",
    **changes: Any,
) -> tuple[Outcome, GradientUpdate]:
    """Two epochs of 10 examples, 4 a step in micro-batches of 2: six steps."""
    course = MiniBatches(data(), settings(checkpoint_seconds=0, **changes), 3)
    update = update_of(model, smoothing, optimizer, course.steps)
    return train(model, objective, update, course, Kept(folder, "here"), judge=judge), update


class Point(torch.nn.Module):
    """Some weights, and no layer."""

    def __init__(self, *at: float) -> None:
        super().__init__()
        self.at = torch.nn.Parameter(torch.tensor(at, dtype=torch.float64))


@dataclass
class Toy:
    """A forget and a retain term of the weights alone, whatever the batches hold."""

    forget: Any
    retain: Any = None

    def objective(self) -> Objective:
        toy = self

        class Made(Objective):
            kind: str = "Toy"
            uses_retain: ClassVar[bool] = toy.retain is not None
            terms_apart: ClassVar[bool] = True

            def __call__(self, model: Any, forget: Any, retain: Any) -> Losses:
                term = toy.forget(model.at) * share_of_step(forget)
                if toy.retain is None:
                    return Losses(term, term.detach(), None, term)
                kept = toy.retain(model.at) * share_of_step(retain)
                return of_terms(term, kept, term.detach(), kept.detach())

        return Made()


def step_of(
    model: torch.nn.Module, objective: Objective, number: int = 0, sets: Any = None, **changes: Any
) -> Step:
    """A step of 4 examples of each set in micro-batches of 2."""
    forget, retain = MiniBatches(sets or data(), settings(**changes), 3).batches(number)
    learning: Sequence[Any] = [p for p in model.parameters() if p.requires_grad]
    return Step(number, 3, model, learning, objective, forget, retain, 0, "fp32", ALONE, lambda: None)
