"""Time left: from finished jobs of the same row, else from the plan as far as it proved right."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from pipeline_lib.planning.jobs import jobs_of, seconds_of
from pipeline_lib.status.remaining import Remaining, remaining
from pipeline_lib.status.states import Main, states_of
from tests.status.study import Files, small_suite

ADAMW, SOPHIA = "unlearn authors/tiny/GradDiff/adamw", "unlearn authors/tiny/GradDiff/sophia"


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path / "results/small", small_suite(seeds=[0, 1, 2]))


def left(files: Files, *titles: str, main: Main | None = None) -> Remaining:
    states = list(states_of([files.jobs[title] for title in titles], files.out, main))
    return remaining(files.suite, states, files.out, main)


def planned(files: Files, title: str) -> float:
    job = files.jobs[title]
    return next(
        seconds_of(found.work)
        for found in jobs_of(files.suite)
        if (found.kind, *found.key[:4]) == (job.rule, *job.row)  # type: ignore[misc]
        and found.work is not None
    )


def test_seeds_of_a_row_take_what_the_first_ones_took(files: Files) -> None:
    files.done(f"{ADAMW}/seed0", seconds=10)
    files.done(f"{ADAMW}/seed1", seconds=30)
    found = left(files, *(f"{ADAMW}/seed{seed}" for seed in range(3)))
    assert found == Remaining(work=20.0, at_a_time=None, unknown=0, by_rule={"unlearn": 20.0})
    assert found.seconds is None


def test_another_row_takes_its_planned_time_as_much_longer_as_the_first_one_did(files: Files) -> None:
    files.done(f"{ADAMW}/seed0", seconds=7 * planned(files, f"{ADAMW}/seed0"))
    found = left(files, f"{ADAMW}/seed0", f"{SOPHIA}/seed0")
    assert found.work == pytest.approx(7 * planned(files, f"{SOPHIA}/seed0"))
    assert planned(files, f"{SOPHIA}/seed0") > planned(files, f"{ADAMW}/seed0")


def test_another_rule_takes_its_planned_time_as_much_longer_as_all_did(files: Files) -> None:
    files.done(f"{ADAMW}/seed0", seconds=3 * planned(files, f"{ADAMW}/seed0"))
    title = "evaluate authors/tiny/GradDiff/adamw/seed0"
    assert left(files, f"{ADAMW}/seed0", title).work == pytest.approx(3 * planned(files, title))


def test_without_a_finished_job_the_plan_counts(files: Files) -> None:
    assert left(files, f"{SOPHIA}/seed0").work == pytest.approx(planned(files, f"{SOPHIA}/seed0"))


def test_jobs_that_are_not_planned_take_the_mean_of_their_rule(files: Files) -> None:
    assert left(files, "table main").unknown == 1
    files.done("table main", seconds=2)
    files.done("table cost", seconds=4)
    found = left(files, "table main", "table cost", "table utility", "html_report")
    assert (found.work, found.unknown) == (3.0, 1)


def test_a_running_job_needs_what_its_log_says(files: Files) -> None:
    files.done(f"{ADAMW}/seed0", seconds=1000)
    files.log(f"{ADAMW}/seed1", "step 2 of 9; 2 s so far, about 40 s left\n")
    assert left(files, f"{ADAMW}/seed0", f"{ADAMW}/seed1").work == 40.0


def test_a_running_job_that_says_nothing_needs_the_rest_of_its_time(files: Files) -> None:
    files.done(f"{ADAMW}/seed0", seconds=1000)
    began = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(time.time() - 400))
    files.log(f"{ADAMW}/seed1", "", f"started {began} UTC on elsewhere, process 1\n")
    assert left(files, f"{ADAMW}/seed0", f"{ADAMW}/seed1").work == pytest.approx(600, abs=5)


def test_jobs_at_a_time_are_those_since_the_main_process_began(files: Files) -> None:
    for seed in range(2):
        files.done(f"{ADAMW}/seed{seed}", seconds=150)
    files.done(f"{SOPHIA}/seed0", seconds=999, age=5000)  # of an earlier call
    titles = [f"{ADAMW}/seed0", f"{ADAMW}/seed1", f"{ADAMW}/seed2", f"{SOPHIA}/seed0"]
    found = left(files, *titles, main=Main("1", time.time() - 100))
    assert found.at_a_time == pytest.approx(3, abs=0.1)
    assert found.seconds == pytest.approx(50, abs=2)
