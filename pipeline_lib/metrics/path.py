"""The path of a run, and the least gap on it at the utility of comparison: fronts of trained models.

Source: this project. One run at a constant rate, judged after some of its steps (`evaluation.trajectory`), is
a path of trained models that begins at `original`. Two optimisers are compared by the front of their paths at
one joint utility of likelihoods, the level of the suite: how near to `retrained` a run comes while it keeps
that much utility. Nothing is carried beyond the models that were trained.
Formula: the least gap (metrics/gap.py) over the judged models that have a utility of at least the level,
`original` among them, and over the places where the path crosses the level. Such a place lies between two
neighbouring points with utilities u1 and u2 on either side of the level, t = (u1 - level) / (u1 - u2); its
gap is the mean over groups of (1 - t) |d1[q]| + t |d2[q]|, with d of metrics/gap.py. The distances are
interpolated, not the scores: between a point far above `retrained` and one far below it the interpolated
scores pass `retrained` though no model does. By convexity this gap is never below that of the interpolated
scores.
`front_gap_signed` is the mean of (1 - t) d1[q] + t d2[q] there, or the judged model's own.
Range: gap 0 upwards. Direction: lower is better.
Traps: the least of several values, so that more judged points make it smaller: compare runs with as many. A
path may leave the level and come back (NPO loses utility first and regains it by its retain term), so that
the first place where it falls below says little. Joint utility is itself a least of parts, so between two
points it need not be linear; more points, less of that, and the row `matched` has a model there. `front_step`
says how far the run had come, 0 where no model of the path with that utility is nearer than `original`. What
the model says was not asked on the way.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from pipeline_lib.metrics.definition import FORGET_SPLIT, FRONT_GAP, INF, RUN_SPLIT, Metric
from pipeline_lib.metrics.judged import parts_before, utility_of
from pipeline_lib.metrics.needs import OTHER_RETRAINED, SIGHTED_PART
from pipeline_lib.metrics.questions import Questions
from pipeline_lib.metrics.statistics import Interval, without_interval
from pipeline_lib.metrics.study import Studied


class Point(NamedTuple):
    """A trained model on a path, with its joint utility of likelihoods."""

    step: float
    utility: float
    differences: np.ndarray  # (N,), log-probability per token minus its mean over `retrained` seeds
    distances: np.ndarray  # (N,), their absolute values
    forget: Questions

    @property
    def gap(self) -> float:
        return self.forget.mean_over_groups(self.distances)


@dataclass(frozen=True)
class Path:
    """Points in the order of their steps, `original` first."""

    points: tuple[Point, ...]

    @classmethod
    def of(cls, study: Studied) -> Path:
        """Of a run with judged steps; each of its utility splits counts unless it is blind."""
        aim, before = study.aims().mean(axis=0), parts_before(study)
        start = study.original[FORGET_SPLIT].values["log_probability"] - aim
        SIGHTED_PART.demand(len(before), len(study.forget.ids))
        points = [Point(0, 1.0, start, np.abs(start), study.forget)]
        for step, judged in study.judged:
            known = np.array([judged["forget"][name] for name in study.forget.ids])
            away = known - aim
            points.append(Point(step, utility_of(judged, before), away, np.abs(away), study.forget))
        return cls(tuple(points))

    def crossings(self, level: float) -> list[Point]:
        """Every place between two neighbours where the path crosses a joint utility, interpolated."""
        found = []
        for one, other in pairwise(self.points):
            if (one.utility >= level) != (other.utility >= level):
                t = (one.utility - level) / (one.utility - other.utility)
                signed = (1 - t) * one.differences + t * other.differences
                distances = (1 - t) * one.distances + t * other.distances
                step = (1 - t) * one.step + t * other.step
                found.append(Point(step, level, signed, distances, one.forget))
        return found

    def front(self, level: float) -> Point:
        """The point of the least gap among those that have at least this utility; of equals the first."""
        kept = [point for point in self.points if point.utility >= level]
        return min((*kept, *self.crossings(level)), key=lambda point: (point.gap, point.step))


def front_of(study: Studied) -> Point | None:
    """The front of a run's path at the level of its study; None where it was not judged on its way.

    Raises `NotMeasured` where there is no other `retrained`, or no part of utility that counts.
    """
    if not study.judged or study.level is None:
        return None
    OTHER_RETRAINED.demand(len(study.retrained), len(study.forget.ids))
    return Path.of(study).front(study.level)


def _value(study: Studied, value: Callable[[Point], float]) -> Interval | None:
    found = study.once(front_of)
    return None if found is None else without_interval(value(found), len(study.forget.ids))


FRONT = Metric(
    name=FRONT_GAP,
    label="Least gap to `retrained` at the utility of comparison",
    short_label="Gap on the front",
    higher_is_better=False,
    higher_is_better_on_forget=False,
    range=(0, INF),
    source="this project",
    formula="the least gap on the path of the run where it has at least the suite's joint utility of "
    "likelihoods",
    trap="the least of several; may be interpolated between two trained models",
    family="Against `retrained`",
    decimals=3,
    tables={"main": 5},
    on="study",
    needs=(OTHER_RETRAINED,),
    no_interval="the least of several",
    compute=lambda study: _value(study, lambda point: point.gap),
    order=0.7,
    only_with=("trajectory",),
)
_ASIDE = replace(FRONT, higher_is_better=None, higher_is_better_on_forget=None, tables={})
METRICS = [
    FRONT,
    replace(
        _ASIDE,
        name="front_gap_signed",
        label="Least gap at the utility of comparison, signed",
        short_label="Gap on the front, signed",
        range=(-INF, INF),
        formula="the signed gap there",
        trap="as gap_signed",
        compute=lambda study: _value(study, lambda point: point.forget.mean_over_groups(point.differences)),
        order=0.71,
    ),
    replace(
        _ASIDE,
        name="front_step",
        label="Step of the least gap",
        short_label="Step on the front",
        formula="the step there, interpolated where it lies between two that were judged",
        trap="0 is `original`",
        tables={"main": 6},
        decimals=1,
        split=RUN_SPLIT,
        compute=lambda study: _value(study, lambda point: point.step),
        order=0.72,
    ),
    replace(
        _ASIDE,
        name="front_interpolated",
        label="Least gap between two judged models",
        short_label="Interpolated",
        range=(0, 1),
        formula="1 where it lies between two models that were judged, 0 where it is that of one of them",
        trap="a coarse place where few steps are judged",
        decimals=0,
        split=RUN_SPLIT,
        compute=lambda study: _value(
            study, lambda point: float(point.step not in (0, *(step for step, _ in study.judged)))
        ),
        order=0.73,
    ),
]
