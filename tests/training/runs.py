"""One short run of the training loop, as the tests of its parts need it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from pipeline_lib.curvature import ESTIMATORS
from pipeline_lib.data.batching import Example
from pipeline_lib.objectives import Objective, make_objective
from pipeline_lib.optimizers import make_optimizer
from pipeline_lib.training.data import TrainingData
from pipeline_lib.training.loop import Outcome, TrainingSettings, train
from pipeline_lib.training.refresh import Curvature
from tests.tiny import PAD, random_examples

OPTIMIZER_SETTINGS: dict[str, dict[str, float | None]] = {
    "adamw": {"beta1": 0.9, "beta2": 0.999, "eps": 1e-8},
    "signum": {"momentum": 0.9},
    "sophia": {"beta1": 0.96, "beta2": 0.99, "gamma": 0.05, "clipped_target": None, "eps": 1e-12},
    "sophia_as_released": {"beta1": 0.9, "beta2": 0.95, "rho": 0.04},
}
TIMED = {"tokens_per_s", "memory_mb", "elapsed_s", "curvature_s"}  # differ from run to run


def settings(**changes: Any) -> TrainingSettings:
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
    return TrainingSettings(**{**plain, **changes})


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
        "estimator": ESTIMATORS["gauss_newton_bartlett"],
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
    return train(
        model,
        objective or make_objective("GradDiff", gamma=1.0),
        optimizer or optimizer_of(kind, model),
        training_data or data(),
        settings(**changes),
        seed,
        curvature or curvature_of(kind),
        folder,
        fingerprint,
    )


def timeless(log: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The log without what the clock decides."""
    return [{key: value for key, value in row.items() if key not in TIMED} for row in log]
