"""Time left: from finished jobs of the same row, else from the plan as far as it proved right."""

from __future__ import annotations

import csv
import random
import time
from pathlib import Path

import pytest

from pipeline_lib.operations.plan.jobs import planned_jobs, seconds_of
from pipeline_lib.operations.status.remaining import Remaining, remaining
from pipeline_lib.operations.status.states import Main, states_of
from pipeline_lib.study import Suite, load_suite
from pipeline_lib.study.graph import Graph
from tests.operations.status.study import Files, small_suite

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
        seconds_of(work)
        for found, work in planned_jobs(files.suite)
        if (found.rule, found.run and found.run.row) == (job.rule, job.run and job.run.row)
        and work is not None
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
    assert (found.work, found.unknown) == (6.0, 0), "of a rule never seen, the mean of all small jobs"
    assert not found.known and found.doubt > 2


def test_a_model_of_unknown_sizes_says_nothing_about_small_jobs(files: Files) -> None:
    """Its jobs cannot be planned; an hour of training is no estimate of a table."""
    hub = {"source": "hub", "id": "someone/model", "revision": "0" * 40}
    unknown = Files(files.out, small_suite(models={"tiny": hub}))
    unknown.done("describe_suite", seconds=6)
    unknown.done(f"{ADAMW}/seed0", seconds=3600)
    titles = ["describe_suite", f"{ADAMW}/seed0", "table main", "evaluate authors/tiny/GradDiff/adamw/seed0"]
    found = left(unknown, *titles)
    assert found.by_rule == {"table": 6.0} and found.unknown == 1


def test_a_running_job_needs_what_its_log_says(files: Files) -> None:
    files.done(f"{ADAMW}/seed0", seconds=1000)
    files.log(f"{ADAMW}/seed1", "step 2 of 9; 2 s so far, about 40 s left\n", left=40.0)
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
    assert found.seconds == pytest.approx(150), "one job is left, and cannot be divided among three"


RECORDED = Path(__file__).parent
# Seconds of the rules that the recorded study has no times of; the row's own share makes them differ.
OTHERS = {"prepare_data": 2, "evaluate": 25, "toxicity": 40, "score": 6, "judge": 3, "collect": 4, "table": 3}


def recorded(suite: Suite) -> dict[str, float]:
    """Seconds of every job of the demo of 23 November 2026: training as it was recorded, the rest made up."""
    with open(RECORDED / "recorded_costs.csv", newline="") as handle:
        trained = {
            tuple(row[name] for name in ("task", "model", "method", "optimizer", "seed")): float(
                row["train_time_s"]
            )
            for row in csv.DictReader(handle)
        }
    seconds = {}
    for job in Graph(suite).study():
        source = random.Random(job.title)
        key = tuple(map(str, job.run[:5])) if job.run else ()
        if job.rule in ("finetune", "unlearn") and key in trained:
            seconds[job.title] = trained[key] + 4
        else:
            seconds[job.title] = OTHERS.get(job.rule, 5) * source.uniform(0.7, 1.4)
    return seconds


@pytest.mark.parametrize("cores", [1, 3])
def test_of_a_mixed_study_it_is_right_within_a_factor_of_two_or_not_known(tmp_path: Path, cores: int) -> None:
    """The demo's recorded times, run in the order of its jobs on so many cores and looked at on the way."""
    suite = load_suite(RECORDED / "recorded_suite.yaml")
    seconds = recorded(suite)
    free, begun, ended = [0.0] * cores, {}, {}
    for title, needed in seconds.items():
        core = min(range(cores), key=lambda number: free[number])
        begun[title] = free[core]
        free[core] = ended[title] = free[core] + needed
    whole, known = max(free), []
    for share in (0.1, 0.25, 0.5, 0.75, 0.9):
        files = Files(tmp_path / f"{share}", suite)
        moment = share * whole
        for title, end in ended.items():
            if end <= moment:
                files.done(title, seconds[title], age=moment - end)
            elif begun[title] < moment:
                when = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(time.time() - moment + begun[title]))
                files.log(title, "", f"started {when} UTC on elsewhere, process 1\n")
        main = Main("1", time.time() - moment)
        found = remaining(suite, list(states_of(files.jobs.values(), files.out, main)), files.out, main)
        known.append(found.seconds is not None)
        if found.seconds is not None:
            assert 0.5 <= found.seconds / (whole - moment) <= 2.0, (share, found.seconds, whole - moment)
    assert known[2:4] == [True] * 2, "once half of it is done it is known"


def test_where_nothing_alike_is_done_it_is_not_known(files: Files) -> None:
    main = Main("1", time.time() - 100)
    assert left(files, f"{SOPHIA}/seed0", main=main).seconds is None
    files.done("prepare_data authors", seconds=3)
    found = left(files, f"{SOPHIA}/seed0", "prepare_data authors", main=main)
    assert not found.known and found.seconds is None
    files.done(f"{ADAMW}/seed0", seconds=30)
    assert left(files, f"{SOPHIA}/seed0", f"{ADAMW}/seed0", main=main).seconds is not None
