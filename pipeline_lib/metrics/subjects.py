"""What a metric is computed from: a split, the forget set beside that of `retrained`, a run as a whole."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Set
from dataclasses import dataclass, field
from dataclasses import replace as changed
from typing import Any, Self, TypeVar

import numpy as np

from pipeline_lib.core.errors import UserError
from pipeline_lib.metrics.definition import Metric, Need, NotMeasured
from pipeline_lib.metrics.rows import Row, in_all
from pipeline_lib.metrics.statistics import Interval, interval, resample_counts, split_seed, weighted_mean

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Subject(ABC):
    """What a metric is measured on; `once` keeps what several metrics have in common."""

    _found: dict[Any, Any] = field(default_factory=dict, init=False, repr=False)

    def once(self, function: Callable[..., T], *arguments: Any) -> T:
        """`function(self, *arguments)`, kept for the next metric that asks for it."""
        key = function, arguments
        if key not in self._found:
            self._found[key] = function(self, *arguments)
        return self._found[key]

    @abstractmethod
    def measure(self, metric: Metric) -> Iterator[Row]:
        """The metric's row of metrics.json, a row that says which need is not met, both, or neither."""


@dataclass(frozen=True, eq=False)
class Split(Subject):
    """The rows of one split with the resamples that all its metrics share, and each metric's values.

    A value is NaN where the record lacks what the metric needs. `multiple_choice`: the rows are questions
    with options. `preference`: the wrong answers are those that the model should prefer to `answer`.
    `vocabulary`: every word of every prompt and answer of the task.
    """

    name: str
    rows: list[Row]
    counts: np.ndarray  # (R, N)
    multiple_choice: bool = False
    preference: bool = False
    vocabulary: Set[str] = frozenset()
    values: dict[str, np.ndarray] = field(default_factory=dict)  # metric -> (N,)

    @classmethod
    def of(cls, name: str, rows: list[Row], group: str = "group", **roles: Any) -> Self:
        """With fresh resamples of the rows' groups."""
        return cls(name, rows, resample_counts([row[group] for row in rows], split_seed(name)), **roles)

    def asked(self) -> list[Row]:
        """The rows; where they are questions with options, each must have some."""
        return self.with_distractors("multiple_choice", "wrong option") if self.multiple_choice else self.rows

    def with_distractors(self, key: str, what: str) -> list[Row]:
        """The rows; a `UserError` names the first without wrong answers, which the manifest's `key` needs."""
        for row in self.rows:
            if not row["distractor_nll"]:
                raise UserError(
                    f"record {row['id']!r} of split {self.name!r}, which the task has under `{key}`, has no "
                    f"{what}: give it `distractors` or take the split out there"
                )
        return self.rows

    def mean(self, values: np.ndarray) -> Interval:
        """Mean over the records that have a value, with the number of these."""
        known = values[~np.isnan(values)]
        return interval(known.mean(), weighted_mean(self.counts, values), len(known))

    def count(self, happened: list[bool]) -> Interval:
        """How many of the N rows, with the interval of the share times N."""
        found = np.array(happened, dtype=float)
        return interval(found.sum(), weighted_mean(self.counts, found) * len(found), len(found))

    def measure(self, metric: Metric) -> Iterator[Row]:
        rows = self.rows
        if not all(in_all(rows, name) for name in metric.fields) or (metric.when and not metric.when(self)):
            return
        if (need := _unmet(metric, rows)) is not None:
            yield unmet_row(self.name, metric, need, len(rows), len(rows))
            return
        lacking = np.zeros(len(rows), dtype=bool)
        for need in metric.needs:
            without = [need.of == "record" and not need.holds(row) for row in rows]
            if any(without):
                yield unmet_row(self.name, metric, need, sum(without), len(rows))
                lacking |= without
        if lacking.all():
            return
        if metric.of == "split":
            yield from measured(self.name, metric, self._without(lacking))
            return
        if metric.of == "column":
            values = np.where(lacking, np.nan, np.array(metric.compute(self), dtype=float))
        else:
            pairs = zip(rows, lacking, strict=True)
            values = np.array([np.nan if lacks else metric.compute(row) for row, lacks in pairs], dtype=float)
        self.values[metric.name] = values
        yield metric_row(self.name, metric, self.mean(values))

    def _without(self, lacking: np.ndarray) -> Split:
        if not lacking.any():
            return self
        counts = self.counts[:, ~lacking]
        rows = [row for row, lacks in zip(self.rows, lacking, strict=True) if not lacks]
        return changed(self, rows=rows, counts=counts[counts.any(axis=1)])


@dataclass(frozen=True, eq=False)
class Asked(Split):
    """Prompts or questions of a separate evaluation; the mean is a matrix product with weights of one."""

    def mean(self, values: np.ndarray) -> Interval:
        value = weighted_mean(np.ones((1, len(values))), values)[0]
        return interval(value, weighted_mean(self.counts, values), len(values))


@dataclass(frozen=True, eq=False)
class Pair(Subject):
    """A model's forget set and the same records under `retrained`, in one order."""

    split: Split
    reference: list[Row]

    def measure(self, metric: Metric) -> Iterator[Row]:
        if need := _unmet(metric, self.split.rows) or _unmet(metric, self.reference):
            n = len(self.reference)
            yield unmet_row(self.split.name, metric, need, n, n)
        else:
            yield from measured(self.split.name, metric, self)


@dataclass(frozen=True, eq=False)
class Run(Subject):
    """What was measured of one run; `mix`: content of equal_retain.json, `judge`: see scores.py."""

    manifest: Mapping[str, Any]
    splits: dict[str, Split]
    reference_rows: list[Row] | None
    mix: Row | None = None
    judge: Row | None = None

    def measure(self, metric: Metric) -> Iterator[Row]:
        yield from measured(metric.split, metric, self)


def measured(split: str, metric: Metric, subject: Subject) -> Iterator[Row]:
    """The row of a metric that looks at its subject as a whole."""
    try:
        found = metric.compute(subject)
    except NotMeasured as lack:
        need, n = lack.args
        yield unmet_row(split, metric, need, n, n)
    else:
        if found is not None:
            yield metric_row(split, metric, found)


def _unmet(metric: Metric, rows: list[Row]) -> Need | None:
    """The first need of the split as a whole that the rows do not meet."""
    return next((need for need in metric.needs if need.of == "split" and not need.holds(rows)), None)


def metric_row(split: str, metric: Metric, result: Interval) -> Row:
    """One row of metrics.json. An end of the interval beyond the metric's range by rounding is put on it."""
    return {
        "split": split,
        "metric": metric.name,
        "value": result.value,
        "ci_low": _rounded(metric, result.low),
        "ci_high": _rounded(metric, result.high),
        "n": result.n,
        "higher_is_better": metric.direction(split),
    }


def _rounded(metric: Metric, end: float | None) -> float | None:
    if end is None:
        return None
    low, high = metric.range
    nearest = min(max(end, low), high)
    return nearest if abs(end - nearest) <= 1e-9 * max(1.0, abs(end)) else end


def unmet_row(split: str, metric: Metric, need: Need, left_out: int, of: int) -> Row:
    """The row that stands for a metric, or some of its records, where a need (needs.py) is not met."""
    return {"split": split, "metric": metric.name, "not_measured": left_out, "of": of, "needs": need.text}
