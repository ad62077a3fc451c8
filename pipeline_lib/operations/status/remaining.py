"""How long a study still takes: what similar finished jobs took, or where there are none, the scaled plan.

Each estimate carries a doubt, the factor by which it may be wrong either way. The doubt is small where a job
of the same row was measured. It is larger where the plan is scaled by other rows, by as much as they differ
from it. Where the sum may be wrong by more than a factor of two, the time left is reported as not known yet.
"""

from __future__ import annotations

import math
import statistics
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path

from pipeline_lib.operations.plan.jobs import planned_jobs, seconds_of
from pipeline_lib.operations.plan.requests import MODELS
from pipeline_lib.operations.status.states import OVER, RUNNING, Main, State
from pipeline_lib.study.suite import Suite

KNOWN = 2.0  # the largest doubt of the time left with which it is told
SURE, GUESSED = 1.25, 4.0  # the doubt of a measured row, and of a plan that nothing was held against
READ = 400  # measurements read of each rule, evenly over its jobs
Kind = tuple[str | int, ...]  # a rule, or a rule and the names of a row


@dataclass(frozen=True)
class Remaining:
    """`work`: seconds of all jobs that are left, one after the other. `at_a_time`: how many jobs have run at
    the same time since the main process started, None without one. `seconds`: the time left at that rate,
    None also where it is not known. `unknown`: how many of the jobs left nothing is known about. `by_rule`:
    the work of each rule. `doubt`: the factor by which `work` may be wrong. `jobs`: how many are left.
    `longest`: the seconds of the longest one."""

    work: float
    at_a_time: float | None
    unknown: int
    by_rule: dict[str, float]
    doubt: float = field(default=SURE, compare=False)
    jobs: int = field(default=1, compare=False)
    longest: float = field(default=0.0, compare=False)

    @property
    def known(self) -> bool:
        """Whether the work left is known within a factor of two."""
        return self.doubt <= KNOWN and 10 * self.unknown <= self.jobs

    @property
    def seconds(self) -> float | None:
        if self.at_a_time is None or not self.known:
            return None
        return max(self.work / max(min(self.at_a_time, self.jobs), 1.0), self.longest)


def remaining(suite: Suite, states: Sequence[State], out: Path, main: Main | None) -> Remaining:
    """The time left of a study.

    A job is taken to need what finished jobs of its row needed; else its planned time, times what finished
    jobs of the same task and model (else of its rule, else of all rules) needed of theirs; else the mean of
    its rule, or, where it needs no model, of all such rules. A running job needs what its progress says, or
    that time without what it had.
    """
    heavy = {state.job.rule for state in states if state.job.needs in MODELS}
    needs, now = _Needs(_planned(suite), _measured(states, out), heavy), time.time()
    left: list[tuple[str, float, float]] = []  # of a job: its rule, its seconds, their doubt
    unknown, busy, running = 0, 0.0, 0
    for state in states:
        need, doubt = needs.of(state)
        if state.state in OVER:
            if main is not None and state.finished is not None and state.finished >= main.since:
                busy += need or 0.0
        elif state.state == RUNNING and state.log is not None:
            had = 0.0 if state.log.start is None else now - state.log.start.time
            busy, running = busy + had, running + 1
            rest = (max((need or 0.0) - had, 0.0), doubt)
            left.append((state.job.rule, *(rest if state.log.left is None else (state.log.left, SURE))))
        elif need is None:
            unknown += 1
        else:
            left.append((state.job.rule, need, doubt))
    by_rule: dict[str, float] = defaultdict(float)
    for rule, seconds, _ in left:
        by_rule[rule] += seconds
    low, high = (sum(seconds * doubt**sign for _, seconds, doubt in left) for sign in (-1, 1))
    return Remaining(
        sum(by_rule.values()),
        None if main is None else max(busy / max(now - main.since, 1.0), float(running), 1.0),
        unknown,
        dict(by_rule),
        math.sqrt(high / low) if low else SURE,
        len(left) + unknown,
        max((seconds for _, seconds, _ in left), default=0.0),
    )


def _planned(suite: Suite) -> dict[Kind, float]:
    """The planner's seconds for a job of each row; they do not depend on the seed."""
    one_seed = suite.model_copy(update={"seeds": suite.seeds[:1], "retrained_seeds": []})
    return {
        (job.rule, *job.row): seconds_of(work)
        for job, work in planned_jobs(one_seed)
        if work is not None and job.row is not None
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
            if (seconds := read_seconds(out / state.job.benchmark)) is not None:
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
    """What a job of each kind needs, in seconds, and the factor by which that may be wrong."""

    def __init__(
        self, planned: Mapping[Kind, float], measured: Mapping[Kind, list[float]], heavy: Set[str | int]
    ) -> None:
        """`heavy`: rules whose jobs need a model, so that others say nothing about them."""
        self.planned, self.heavy = planned, heavy
        self.means = {kind: sum(values) / len(values) for kind, values in measured.items()}
        # rule, task and model; rule; everything -> measured by planned seconds of each row
        ratios: dict[Kind, list[float]] = defaultdict(list)
        rules: dict[str | int, list[float]] = defaultdict(list)
        for kind, values in measured.items():
            rules[kind[0]] += values
            if planned.get(kind, 0.0) > 0 and self.means[kind] > 0:
                for group in (kind[:3], kind[:1], ()):
                    ratios[group].append(self.means[kind] / planned[kind])
        self.factors = {group: _middle(found) for group, found in ratios.items()}
        self.factors[()] = (self.factors[()][0] if () in ratios else 1.0, GUESSED)
        self.rules = {rule: (sum(values) / len(values), _middle(values)[1]) for rule, values in rules.items()}
        small = [seconds for rule, values in rules.items() if rule not in heavy for seconds in values]
        self.small = (sum(small) / len(small), GUESSED) if small else (None, GUESSED)

    def of(self, state: State) -> tuple[float | None, float]:
        kind = _kind(state)
        if kind in self.means:
            return self.means[kind], SURE
        if kind in self.planned:
            groups: tuple[Kind, ...] = (kind[:3], kind[:1], ())
            factor, doubt = next(self.factors[group] for group in groups if group in self.factors)
            return factor * self.planned[kind], doubt
        return self.rules.get(kind[0], (None, GUESSED) if kind[0] in self.heavy else self.small)


def _middle(values: Sequence[float]) -> tuple[float, float]:
    """The geometric mean of positive values, and the doubt of the next one: two deviations of logarithms.

    Of a single one nothing shows how far the next may be.
    """
    logs = [math.log(max(value, 1e-3)) for value in values]
    mean = math.exp(statistics.fmean(logs))
    return mean, KNOWN if len(logs) == 1 else max(math.exp(2 * statistics.stdev(logs)), SURE)
