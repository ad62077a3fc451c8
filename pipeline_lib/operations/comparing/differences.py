"""The difference B - A of one number of one row, with a 95 % interval.

paired       Both studies asked the row's models the same questions, so that each question has a difference of
             its own (the mean over the seeds of B minus that of A). Whole groups of questions are drawn
             again, as for every interval of one model (metrics/statistics.py), with the same resamples.
             Possible for what follows from scores.csv: means over questions, the gap, joint utility.
independent  From the two intervals by the method of variance estimates recovery:
                 low = b - a - sqrt((b - b_low)^2 + (a_high - a)^2),
                 high = b - a + sqrt((b_high - b)^2 + (a - a_low)^2),
             which for symmetric intervals is the root of the sum of squares (Zou and Donner 2008, Statistics
             in Medicine 27, 1693-1702). Wider than a paired one where the two models err alike.
none         `why` says why.

A paired interval is about these models: it does not cover what another seed would give. `seeds_low` and
`seeds_high` do, where both studies have two seeds or more: by Student's t over the seeds' own differences
where these are the same seeds, else from the two intervals over seeds as above.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from pipeline_lib.core.runs import RowKey
from pipeline_lib.metrics import declared
from pipeline_lib.metrics.definition import FORGET_SPLIT
from pipeline_lib.metrics.study import Scores
from pipeline_lib.operations.comparing.paired import Unpaired, paired
from pipeline_lib.operations.comparing.side import Side
from pipeline_lib.reporting.headline import GAP, GAP_SIGNED, JOINT_UTILITY, Measure
from pipeline_lib.reporting.intervals import of_difference
from pipeline_lib.reporting.summary import Estimate, plain_estimate

HEADLINE = (
    GAP,
    GAP_SIGNED,
    JOINT_UTILITY,
    Measure(FORGET_SPLIT, "probability"),
    Measure(FORGET_SPLIT, "rouge_l_recall"),
)
PAIRED, INDEPENDENT, NONE = "paired", "independent", "none"
SAME = "the same scores of every question in both"
ROUNDING = 1e-5  # scores.csv has six digits, metrics.csv the numbers before rounding


@dataclass(frozen=True)
class Difference:
    """`n`: the questions behind a paired interval. `why`: why the interval is not paired, or of no width."""

    row: RowKey
    measure: Measure
    a: Estimate
    b: Estimate
    low: float | None
    high: float | None
    kind: str
    n: int | None
    why: str
    seeds_low: float | None
    seeds_high: float | None

    @property
    def value(self) -> float:
        return self.b.value - self.a.value


def differences(a: Side, b: Side, row: RowKey) -> Iterator[Difference]:
    """Of all that both have measured of the row: the headline, then what the table `main` shows."""
    measures = dict.fromkeys((*HEADLINE, *a.shown, *b.shown))
    for measure in measures:
        if measure in a.measured[row] and measure in b.measured[row]:
            yield _difference(a, b, row, measure)


def _difference(a: Side, b: Side, row: RowKey, measure: Measure) -> Difference:
    one, other = a.estimate(row, measure), b.estimate(row, measure)
    value = other.value - one.value
    limits = declared()[measure.metric].range
    low = high = n = None
    try:
        found = paired(a, b, row, measure)
        if abs(found.value - value) > ROUNDING * max(1.0, abs(one.value), abs(other.value)):
            raise Unpaired("scores.csv and metrics.csv of a study do not agree")
        low, high, n, kind, why = found.low, found.high, found.n, PAIRED, ""
    except Unpaired as reason:
        kind, why = INDEPENDENT, str(reason)
    if kind == INDEPENDENT and None not in (one.low, one.high, other.low, other.high):
        low, high = independent(one, other, limits)
    if (low is None or kind == INDEPENDENT) and value == 0 and _same_models(a, b, row):
        low, high, kind, why = 0.0, 0.0, PAIRED, SAME
    if low is None:
        kind, why = NONE, (f"{one.why or other.why}" if kind == INDEPENDENT else "alike in every question")
    seeds_low, seeds_high = over_seeds(a.values(row, measure), b.values(row, measure), limits)
    return Difference(row, measure, one, other, low, high, kind, n, why, seeds_low, seeds_high)


def independent(a: Estimate, b: Estimate, limits: tuple[float, float]) -> tuple[float, float]:
    """The interval of b - a from the intervals of both, no wider than the metric's range allows."""
    assert a.low is not None and a.high is not None and b.low is not None and b.high is not None
    value, widest = b.value - a.value, limits[1] - limits[0]
    low = value - math.hypot(b.value - b.low, a.high - a.value)
    high = value + math.hypot(b.high - b.value, a.value - a.low)
    return max(low, -widest), min(high, widest)


def over_seeds(
    a: dict[int, float], b: dict[int, float], limits: tuple[float, float]
) -> tuple[float | None, float | None]:
    """The interval of a difference for further seeds; none where a study has one seed, or all are alike."""
    if min(len(a), len(b)) < 2:
        return None, None
    if a.keys() == b.keys():
        _, low, high = of_difference([b[seed] - a[seed] for seed in a], limits)
        return low, high
    one, other = (plain_estimate(list(values.values()), limits) for values in (a, b))
    assert one is not None and other is not None
    return independent(one, other, limits) if "none" not in (one.interval, other.interval) else (None, None)


def _same_models(a: Side, b: Side, row: RowKey) -> bool:
    """Whether every question has the same scores in both, with each seed: then these are the same models."""
    first, second = ({seed: side.scores.get(row.seeded(seed)) for seed in side.seeds(row)} for side in (a, b))
    return first.keys() == second.keys() and all(
        one is not None and (other := second[seed]) is not None and _equal(one, other)
        for seed, one in first.items()
    )


def _equal(one: Scores, other: Scores) -> bool:
    return one.keys() == other.keys() and all(
        one[split].ids == other[split].ids
        and all(
            np.array_equal(values, other[split].values[name], equal_nan=True)
            for name, values in one[split].values.items()
        )
        for split in one
    )
