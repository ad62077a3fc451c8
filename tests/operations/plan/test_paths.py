"""Paths with more points than steps are named before anything runs."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline_lib.operations.plan.paths import short_paths
from pipeline_lib.operations.plan.table import plan_text
from pipeline_lib.study import parse_suite
from tests.study.suites import small


def suite(points: int, **unlearn: Any) -> Any:
    return parse_suite(
        small(
            evaluation={"trajectory": {"points": points}},
            objectives={"GradDiff": None},
            optimizers={"adamw": {"learning_rate": 1e-4}, "influence": {"learning_rate": 1.0}},
            unlearn={"decay": "constant", "batch_size": 8, **unlearn},
        )
    )


@pytest.mark.parametrize(("points", "warmup", "left"), [(10, 0.0, None), (11, 0.0, 10), (10, 0.2, 9)])
def test_points_beyond_the_steps_are_named(points: int, warmup: float, left: int | None) -> None:
    """Two epochs of 40 forget questions in batches of 8 are ten steps; the one-shot method has no path."""
    made = suite(points, epochs=2, warmup=warmup)
    found = list(short_paths(made))
    if left is None:
        assert found == []
        return
    assert found == [
        f"evaluation.trajectory.points is {points}, but from the end of the warm-up GradDiff+adamw takes "
        f"{left} steps: no more are judged. Train longer, or ask for fewer points."
    ]
    assert found[0] in plan_text(made)


def test_points_beyond_the_steps_of_a_stage_are_named() -> None:
    """Two epochs of 40 forget questions in batches of 8 are ten steps."""
    learned = {"kind": "finetune", "split": "forget", "batch_size": 8, "epochs": 2, "of": ["retrained"]}
    raw = small(objectives={"GradDiff": None}, optimizers={"adamw": {"learning_rate": 1e-4}})
    found = {
        points: list(short_paths(parse_suite({**raw, "stages": {"relearn": {**learned, "points": points}}})))
        for points in (10, 11)
    }
    assert found[10] == []
    assert found[11] == [
        "stages.relearn.points is 11, but from the end of the warm-up retrained/relearn takes 10 steps: no "
        "more are judged. Train longer, or ask for fewer points."
    ]
