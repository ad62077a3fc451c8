"""How long a study still takes: what its finished jobs took, scaled by the plan where there is none alike."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline_lib.config.suite import Suite
from pipeline_lib.planning.jobs import jobs_of, seconds_of
from pipeline_lib.status.states import OVER, RUNNING, Main, State

READ = 400  # measurements read of each rule, evenly over its jobs
Kind = tuple[str, ...]  # a rule, or a rule and the task, model, method and optimizer of a row


@dataclass(frozen=True)
class Remaining:
    """`work`: seconds of all jobs that are left, one after the other. `at_a_time`: how many jobs ran at the
    same time since the main process started, None without one; `seconds`: the time that is left so.
    `unknown`: jobs left of which nothing is known. `by_rule`: the work of each rule."""

    work: float
    at_a_time: float | None
    unknown: int
    by_rule: dict[str, float]

    @property
    def seconds(self) -> float | None:
        return None if self.at_a_time is None else self.work / self.at_a_time


def remaining(suite: Suite, states: Sequence[State], out: Path, main: Main | None) -> Remaining:
    """The time left of a study.

    A job is taken to need what finished jobs of its row needed; else its planned time, times what finished
    jobs of the same task and model (else of its rule, else of all rules) needed of theirs; else the mean of
    its rule. A running job needs what its last line of progress says, or that time without what it had.
    """
    planned = _planned(suite)
    needs = _Needs(planned, _measured(states, out))
    now = time.time()
    by_rule: dict[str, float] = defaultdict(float)
    unknown, busy = 0, 0.0
    for state in states:
        need = needs.of(state)
        if state.state in OVER:
            if main is not None and state.finished is not None and state.finished >= main.since:
                busy += need or 0.0
        elif state.state == RUNNING and state.log is not None:
            start = state.log.start
            had = 0.0 if start is None else now - start.time
            busy += had
            left = state.log.left
            by_rule[state.job.rule] += max((need or 0.0) - had, 0.0) if left is None else left
        elif need is None:
            unknown += 1
        else:
            by_rule[state.job.rule] += need
    at_a_time = None
    if main is not None:
        running = sum(state.state == RUNNING for state in states)
        at_a_time = max(busy / max(now - main.since, 1.0), float(running), 1.0)
    return Remaining(sum(by_rule.values()), at_a_time, unknown, dict(by_rule))


def _planned(suite: Suite) -> dict[Kind, float]:
    """The planner's seconds for a job of each row; they do not depend on the seed."""
    one_seed = suite.model_copy(update={"seeds": suite.seeds[:1]})
    return {
        (job.kind, *job.key[:4]): seconds_of(job.work) for job in jobs_of(one_seed) if job.work is not None
    }


def _measured(states: Sequence[State], out: Path) -> dict[Kind, list[float]]:
    """Seconds of finished jobs by row, from Snakemake's measurements."""
    by_rule: dict[str, list[State]] = defaultdict(list)
    for state in states:
        if state.state in OVER:
            by_rule[state.job.rule].append(state)
    found: dict[Kind, list[float]] = defaultdict(list)
    for some in by_rule.values():
        for state in some[:: -(-len(some) // READ)]:
            seconds = read_seconds(out / state.job.benchmark)
            if seconds is not None:
                found[_kind(state)].append(seconds)
    return found


def read_seconds(path: Path) -> float | None:
    """The first number of a benchmark file of Snakemake: the job's seconds."""
    try:
        with open(path, encoding="utf-8") as handle:
            names, values = handle.readline().split("\t"), handle.readline().split("\t")
        return float(values[names.index("s")])
    except (OSError, ValueError, IndexError):  # there is none, or it is being written
        return None


def _kind(state: State) -> Kind:
    return (state.job.rule, *(state.job.row or ()))


class _Needs:
    """What a job of each kind needs, in seconds."""

    def __init__(self, planned: Mapping[Kind, float], measured: Mapping[Kind, list[float]]) -> None:
        self.planned = planned
        self.means = {kind: sum(values) / len(values) for kind, values in measured.items()}
        # rule, task and model; rule; everything -> seconds measured and planned of the same jobs
        sums: dict[Kind, list[float]] = defaultdict(lambda: [0.0, 0.0])
        rules: dict[str, list[float]] = defaultdict(list)
        for kind, values in measured.items():
            rules[kind[0]] += values
            if kind in planned:
                for group in (kind[:3], kind[:1], ()):
                    sums[group][0] += sum(values)
                    sums[group][1] += len(values) * planned[kind]
        self.factors = {group: took / plan for group, (took, plan) in sums.items() if plan > 0}
        self.rules = {rule: sum(values) / len(values) for rule, values in rules.items()}

    def of(self, state: State) -> float | None:
        kind = _kind(state)
        if kind in self.means:
            return self.means[kind]
        if kind in self.planned:
            groups: tuple[Kind, ...] = (kind[:3], kind[:1], ())
            factor = next((self.factors[group] for group in groups if group in self.factors), 1.0)
            return factor * self.planned[kind]
        return self.rules.get(kind[0])
