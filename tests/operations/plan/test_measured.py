"""The planner's bytes against what torch allocates, for a small model on a CPU: every kind of job."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import cache
from typing import Any

import pytest

from pipeline_lib.models import forward, fused_attention
from pipeline_lib.operations.plan.device import Device
from pipeline_lib.operations.plan.shape import _of_config
from pipeline_lib.operations.plan.sizes import Lengths
from pipeline_lib.operations.plan.training import Training
from pipeline_lib.operations.plan.training_memory import LOGITS_AT_ONCE, SHORT, phases_of
from pipeline_lib.optimizers import OPTIMIZERS
from pipeline_lib.training.settings import Unlearn
from tests.methods import make_objective
from tests.paths import REPO

BOUND = 0.05  # relative error; the largest was 0.025
CONFIG = {
    "vocab_size": 4096,
    "hidden_size": 256,
    "intermediate_size": 704,
    "num_hidden_layers": 6,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "max_position_embeddings": 128,
    "tie_word_embeddings": True,
}
ADAMW = {
    "kind": "adamw",
    "learning_rate": 1e-5,
    "beta1": 0.9,
    "beta2": 0.99,
    "eps": 1e-8,
    "weight_decay": 0.0,
}
SIGNUM = {"kind": "signum", "learning_rate": 1e-5, "momentum": 0.9, "weight_decay": 0.0}
SOPHIA = {
    "kind": "sophia",
    "learning_rate": 1e-5,
    "beta1": 0.96,
    "beta2": 0.99,
    "gamma": 0.05,
    "clipped_target": None,
    "eps": 1e-12,
    "weight_decay": 0.0,
    "estimator": "gauss_newton_bartlett",
    "update_every": 1,
    "drift_target": None,
    "curvature_data": "both",
    "curvature_examples": None,
}
RMU = {
    "kind": "RMU",
    "layer": 5,
    "update_layers": 3,
    "steering": 6.5,
    "alpha": 1.0,
    "direction_seed": 0,
}
SMOOTHINGS = {
    "sam": {},
    "random_smoothing": {},
    "gradient_penalty": {},
    "curvature_regularisation": {},
    "weight_averaging": {"start": 1},
}
PLAIN: dict[str, Any] = {
    "config": CONFIG,
    "forget": [20, 30],
    "retain": [18, 27],
    "objective": {"kind": "GradDiff", "gamma": 1.0},
    "optimizer": ADAMW,
    "weights": "fp32",
    "lora": None,
    "reference": False,
    "batch_size": 4,
    "accumulation": 1,
    "compute": "fp32",
    "checkpointing": False,
}
TUNING = {"forget": None, "objective": {"kind": "FineTuning"}}
CASES: dict[str, dict[str, Any]] = {
    "fine-tuning": TUNING,
    "fine-tuning, large batch": {**TUNING, "batch_size": 16},
    "fine-tuning, untied": {**TUNING, "config": {**CONFIG, "tie_word_embeddings": False}},
    "fine-tuning under autocast": {**TUNING, "compute": "bf16", "batch_size": 8},
    "GradDiff": {},
    "GradDiff, accumulated": {"accumulation": 2},
    "GradDiff under autocast": {"compute": "bf16", "batch_size": 8},
    "GradDiff in bf16": {"weights": "bf16"},
    "GradDiff in bf16, rounded at random": {"weights": "bf16_stochastic"},
    "GradAscent, one state": {"objective": {"kind": "GradAscent"}, "retain": None, "optimizer": SIGNUM},
    "Sophia": {"optimizer": SOPHIA},
    "Sophia under autocast": {"optimizer": SOPHIA, "compute": "bf16", "batch_size": 2},
    "Sophia with Hutchinson's products": {"optimizer": {**SOPHIA, "estimator": "hutchinson_rademacher"}},
    "Sophia with Hutchinson's products, large batch": {
        "optimizer": {**SOPHIA, "estimator": "hutchinson_rademacher"},
        "batch_size": 16,
    },
    "Sophia with Hutchinson's products of one example": {
        "optimizer": {**SOPHIA, "estimator": "hutchinson_rademacher", "curvature_examples": 1}
    },
    "Sophia of squared gradients": {"optimizer": {**SOPHIA, "estimator": "empirical_fisher"}},
    "Sophia in bf16, rounded at random": {"optimizer": SOPHIA, "weights": "bf16_stochastic"},
    "KL": {"objective": {"kind": "KL", "gamma": 1.0}, "reference": True},
    "UNDIAL": {"objective": {"kind": "UNDIAL", "beta": 10.0, "alpha": 1.0}, "reference": True},
    "RMU": {"objective": RMU, "reference": True},
    "checkpointing": {"checkpointing": True, "batch_size": 16},
    "checkpointing, fine-tuning": {**TUNING, "checkpointing": True, "batch_size": 32},
    "checkpointing, Sophia": {"checkpointing": True, "batch_size": 16, "optimizer": SOPHIA},
    **{
        f"smoothed by {kind}": {"optimizer": {**SIGNUM, "smoothing": {"kind": kind, **given}}}
        for kind, given in SMOOTHINGS.items()
    },
    "adapters": {"lora": {"rank": 8, "alpha": 16.0, "dropout": 0.0, "target": "all-linear"}},
}


@cache
def measurements() -> dict[str, int]:
    """All cases in one process, which imports torch once."""
    cases = [{**PLAIN, **case} for case in CASES.values()]
    done = subprocess.run(
        [sys.executable, "-m", "tests.operations.plan.measured_training", json.dumps(cases)],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPO)},
        cwd=REPO,
        capture_output=True,
        check=False,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return dict(zip(CASES, json.loads(done.stdout.splitlines()[-1]), strict=True))


def estimated(case: dict[str, Any]) -> float:
    """Bytes of what the job itself holds: without libraries and what the process keeps of freed memory."""
    case = {**PLAIN, **case}
    shape = _of_config({"model_type": "llama", **case["config"]}, "test")
    assert shape is not None

    def lengths(size: list[int] | None) -> Lengths | None:
        return None if size is None else Lengths(100, size[0], size[1], sum(size), 1, "both")

    job = Training(
        shape,
        Device("cpu", None, 1, None),
        lengths(case["forget"]),
        lengths(case["retain"]),
        make_objective(**case["objective"]),
        OPTIMIZERS.parse(case["optimizer"]),
        Unlearn.model_validate({name: case[name] for name in case.keys() & Unlearn.model_fields}),
        None,
    )
    return max(sum(parts.values()) for parts in phases_of(job).values())


def test_the_plan_has_the_bounds_of_the_passes() -> None:
    assert (forward.LOGITS_AT_ONCE, fused_attention.SHORT) == (LOGITS_AT_ONCE, SHORT)


@pytest.mark.parametrize("name", CASES)
def test_estimate_is_near_what_torch_allocates(name: str) -> None:
    assert estimated(CASES[name]) == pytest.approx(measurements()[name], rel=BOUND)
