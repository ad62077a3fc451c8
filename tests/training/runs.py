"""One short run of the training loop, as the tests of its parts need it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from pipeline_lib.data.batching import Example
from pipeline_lib.distributed.group import ALONE, Group
from pipeline_lib.objectives import Objective
from pipeline_lib.optimizers.base import Curvature
from pipeline_lib.training.batches import MiniBatches, WholeSets
from pipeline_lib.training.checkpoint import Kept
from pipeline_lib.training.data import TrainingData
from pipeline_lib.training.loop import Outcome, train
from pipeline_lib.training.newton import NewtonUpdate
from pipeline_lib.training.refresh import Refresher
from pipeline_lib.training.settings import Training
from pipeline_lib.training.updates import GradientUpdate
from tests.methods import estimator, make_objective, make_optimizer
from tests.tiny import PAD, random_examples

OPTIMIZER_SETTINGS: dict[str, dict[str, float | None]] = {
    "adamw": {"beta1": 0.9, "beta2": 0.999, "eps": 1e-8},
    "adamw_noise": {"beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "noise": 0.5},
    "signum": {"momentum": 0.9},
    "sophia": {"beta1": 0.96, "beta2": 0.99, "gamma": 0.05, "clipped_target": None, "eps": 1e-12},
    "sophia_as_released": {"beta1": 0.9, "beta2": 0.95, "rho": 0.04},
}
TIMED = {"tokens_per_s", "memory_mb", "elapsed_s", "curvature_s"}  # differ from run to run


def settings(**changes: Any) -> Training:
    plain = {
        "epochs": 2,
        "batch_size": 2,
        "accumulation": 2,
        "warmup": 0.0,
        "decay": "constant",
        "max_grad_norm": 1.0,
        "compute": "fp32",
        "checkpoint_seconds": 1e9,
    }
    return Training(**{**plain, **changes})


def data(forget: int = 10, retain: int | Sequence[Example] = 7, **changes: Any) -> TrainingData:
    return TrainingData(
        **{
            "forget": random_examples(forget, 1),
            "retain": random_examples(retain, 2) if isinstance(retain, int) else retain,
            "pad_id": PAD,
            **changes,
        }
    )


def optimizer_of(kind: str, model, learning_rate: float = 1e-2) -> torch.optim.Optimizer:
    return make_optimizer(
        kind, model, learning_rate=learning_rate, weight_decay=0.1, **OPTIMIZER_SETTINGS[kind]
    )


def curvature_of(kind: str, **changes: Any) -> Curvature | None:
    """Gauss-Newton-Bartlett at every second step, or as changed; None for first-order optimisers."""
    plain = {
        "estimator": estimator("gauss_newton_bartlett"),
        "update_every": 2,
        "drift_target": None,
        "data": "both",
        "examples": None,
    }
    return Curvature(**{**plain, **changes}) if kind == "sophia" else None


def run(
    model,
    folder: Path,
    kind: str = "adamw",
    *,
    optimizer: torch.optim.Optimizer | None = None,
    objective: Objective | None = None,
    training_data: TrainingData | None = None,
    curvature: Curvature | None = None,
    fingerprint: str = "here",
    seed: int = 3,
    **changes: Any,
) -> Outcome:
    """Train `model` in place with checkpoints in `folder`."""
    return trained(
        model,
        objective or make_objective("GradDiff", gamma=1.0),
        optimizer or optimizer_of(kind, model),
        MiniBatches(training_data or data(), settings(**changes), seed),
        curvature or curvature_of(kind),
        Kept(folder, fingerprint),
    )


def trained(
    model,
    objective: Objective,
    optimizer: torch.optim.Optimizer,
    course: MiniBatches,
    curvature: Curvature | None,
    kept: Kept,
    group: Group = ALONE,
) -> Outcome:
    """Train `model` in place by the plain update."""
    refresher = None if curvature is None else Refresher(curvature, optimizer, group)
    update = GradientUpdate(optimizer, course.settings.max_grad_norm, refresher)
    return train(model, objective, update, course, kept, group)


def one_shot(
    model,
    objective: Objective,
    training_data: TrainingData,
    batch_size: int,
    compute: str,
    seed: int,
    chosen: dict[str, Any],
    group: Group = ALONE,
) -> Outcome:
    """Take the one step of influence unlearning; `chosen`: its settings."""
    course = WholeSets(training_data, settings(batch_size=batch_size, compute=compute), seed, objective)
    update: Any = NewtonUpdate(model, SimpleNamespace(**chosen), course)  # type: ignore[arg-type]
    return train(model, objective, update, course, Kept(Path("there is none"), ""), group)


class Stopped(Exception):
    """Raised where a test ends a run."""


def stop_before(step: int, patch: pytest.MonkeyPatch) -> None:
    """Make the loop raise when it prepares this step, counted from 0."""
    original = MiniBatches.batches

    def stopping(self: MiniBatches, current: int) -> Any:
        if current == step:
            raise Stopped
        return original(self, current)

    patch.setattr(MiniBatches, "batches", stopping)


def timeless(log: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The log without what the clock decides."""
    return [{key: value for key, value in row.items() if key not in TIMED} for row in log]
