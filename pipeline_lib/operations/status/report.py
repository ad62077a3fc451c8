"""The status of a whole study: the state of every job, put together by rule and by row."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pipeline_lib.core.errors import UserError
from pipeline_lib.core.runs import RowKey
from pipeline_lib.operations.plan import check_same_study
from pipeline_lib.operations.status.remaining import Remaining, remaining
from pipeline_lib.operations.status.states import (
    DIVERGED,
    DONE,
    FAILED,
    OVER,
    RUNNING,
    STOPPED,
    WAITING,
    Main,
    State,
    main_process,
    states_of,
)
from pipeline_lib.study import Suite, load_suite
from pipeline_lib.study.graph import Graph

WORST_FIRST = (FAILED, RUNNING, STOPPED, WAITING, DIVERGED, DONE)
BEGUN = "begun"  # of a run: some of its jobs are done, and others wait


@dataclass(frozen=True)
class Report:
    """`now`: when it was made, in seconds since 1970. `rows`: of each task, model, method and optimizer the
    state of its run with each seed."""

    suite: str
    out: Path
    now: float
    main: Main | None
    states: list[State]
    rows: dict[RowKey, dict[int, str]]
    left: Remaining

    def of(self, *wanted: str) -> list[State]:
        """The jobs in one of these states."""
        return [state for state in self.states if state.state in wanted]

    @property
    def is_over(self) -> bool:
        """Whether nothing is left to do."""
        return len(self.of(*OVER)) == len(self.states)

    def by_rule(self) -> dict[str, Counter[str]]:
        found: dict[str, Counter[str]] = {}
        for state in self.states:
            found.setdefault(state.job.rule, Counter())[state.state] += 1
        return found


def find_study(given: Path) -> tuple[Suite, Path]:
    """A suite and its results folder, from the suite's file or from the results folder of a started study."""
    if not given.is_dir():
        suite = load_suite(given)
        return suite, Path("results") / suite.suite
    if not (given / "suite.yaml").is_file():
        raise UserError(
            f"{given}: no results folder of a study, as it holds no suite.yaml; give a suite file, such as "
            "config.yaml, or a folder such as results/demo"
        )
    return load_suite(given / "suite.yaml", kept=True), given


def report_of(suite: Suite, out: Path) -> Report:
    """The status of a study, from its files alone; raises `UserError` where they are another study's."""
    check_same_study(suite, out)
    main = main_process(out)
    states = list(states_of(Graph(suite).study(), out, main))
    return Report(
        suite.suite, out, time.time(), main, states, _rows(states), remaining(suite, states, out, main)
    )


def _rows(states: Iterable[State]) -> dict[RowKey, dict[int, str]]:
    """The state of each run: done when all its jobs are, else the one of its jobs that needs most attention.

    Trials are no runs of the study; what fails among them shows in their rule.
    """
    runs: dict[RowKey, dict[int, set[str]]] = {}
    for state in states:
        job = state.job
        if job.run is not None and job.rule not in ("trial", "choose_so_far", "choose"):
            runs.setdefault(job.run.row, {}).setdefault(job.run.seed, set()).add(state.state)
    return {row: {seed: _worst(found) for seed, found in seeds.items()} for row, seeds in runs.items()}


def _worst(found: set[str]) -> str:
    worst = min(found, key=WORST_FIRST.index)
    return BEGUN if worst == WAITING and len(found) > 1 else worst
