"""The matrices that the planner counts are those of a model, trained whole or by adapters."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from pipeline_lib.models import adapters
from pipeline_lib.objectives import OBJECTIVES
from pipeline_lib.operations.plan.shape import Shape
from pipeline_lib.operations.plan.training import Training
from pipeline_lib.optimizers import OPTIMIZERS
from pipeline_lib.training.settings import Unlearn
from tests.tiny import tiny_model


def job_of(
    tied: bool = True, objective: str = "GradDiff", optimizer: str = "soap", **settings: Any
) -> Training:
    shape = Shape(
        parameters=17568 if tied else 17568 + 2048,
        hidden=32,
        layers=2,
        vocab=64,
        intermediate=48,
        heads=4,
        kv_heads=2,
        head_size=8,
        context=64,
        tied=tied,
        gated=True,
        relu=False,
        source="a test",
    )
    method = OPTIMIZERS.parse({"kind": optimizer, "learning_rate": 1e-3})
    chosen = OBJECTIVES.parse({"kind": objective})
    return Training(shape, None, None, None, chosen, method, Unlearn(**settings), None)  # type: ignore[arg-type]


def matrices_of(model: Any) -> Counter[tuple[int, ...]]:
    return Counter(tuple(p.shape) for p in model.parameters() if p.requires_grad and p.dim() == 2)


@pytest.mark.parametrize("tied", [True, False])
def test_all_matrices_of_a_model(tied: bool) -> None:
    assert Counter(job_of(tied).matrices) == matrices_of(tiny_model(tie_word_embeddings=tied))


@pytest.mark.parametrize("target", ["all-linear", ["q_proj", "down_proj"]])
def test_those_of_its_adapters(target: Any) -> None:
    model = tiny_model()
    adapters.attach(model, 3, 4.0, 0.0, target, seed=0)
    job = job_of(lora={"rank": 3, "target": target})
    assert Counter(job.matrices) == matrices_of(model)
    assert job.trained == sum(p.numel() for p in model.parameters() if p.requires_grad)


def test_what_rmu_trains_is_the_last_matrix_of_some_layers() -> None:
    job = job_of(objective="RMU")
    assert set(job.matrices) == {(32, 48)}
    assert job.trained == len(job.matrices) * 32 * 48


def test_bases_are_counted_with_the_states() -> None:
    job = job_of()
    assert job.state_bytes(4) == 4 * (2 * 17568 + 2 * sum(r * r + c * c for r, c in job.matrices))
    assert job_of(optimizer="adamw").state_bytes(4) == 4 * 2 * 17568
