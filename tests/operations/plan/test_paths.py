"""Paths with more points than steps are named before anything runs."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline_lib.operations.plan.jobs import planned_jobs, seconds_of
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


def test_a_run_that_is_judged_on_its_way_takes_longer_by_each_judging() -> None:
    """As long as an evaluation by likelihood alone takes beyond loading the model, once a point."""

    def seconds(points: int | None, **stage: Any) -> dict[str, float]:
        learn = {"kind": "finetune", "split": "retain", "batch_size": 4, "points": points, **stage}
        alone = {"kind": "quantise", "format": "int8", "likelihood_only": True}
        suite = parse_suite(small(stages={"learn": learn, "int8": alone}))
        return {
            f"{job.rule} {job.run.after}": seconds_of(work)
            for job, work in planned_jobs(suite)
            if work is not None and job.run is not None
        }

    ends, twice, thrice = (seconds(points) for points in (None, 2, 3))
    judging = thrice["stage learn"] - twice["stage learn"]
    assert twice["stage learn"] - ends["stage learn"] == pytest.approx(2 * judging)
    assert 0 < judging < ends["evaluate int8"] < ends["evaluate learn"]
    steps = seconds(50, epochs=0.2)["stage learn"] - seconds(None, epochs=0.2)["stage learn"]
    assert judging < steps < 50 * judging, "no more often than it has steps"


def test_a_stage_that_learns_half_of_the_groups_takes_half_of_the_steps() -> None:
    def steps(groups: float | None) -> int:
        task = {"source": "fictitious", "n_authors": 12, "forget_authors": 8, "questions_per_author": 10}
        learn = {"kind": "finetune", "split": "forget", "batch_size": 4, "epochs": 1, "groups": groups}
        suite = parse_suite(small(stages={"learn": learn}, tasks={"authors": task}))
        (found,) = {work.steps for job, work in planned_jobs(suite) if job.rule == "stage"}
        return found

    assert [steps(groups) for groups in (None, 0.5, 2, 0.3)] == [20, 10, 5, 8], "a share is rounded up"
