"""The path of a run, and what it has forgotten where it has lost so much utility: fronts of trained models.

Source: this project. One run at a constant rate, judged after some of its steps (`evaluation.trajectory`), is
a path of trained models that begins at `original`. Two optimisers are compared where their paths cross the
same joint utility of likelihoods, the level of the suite: the first crossing from above, between two
neighbouring points of one run, with the scores of both points interpolated linearly. There is no
extrapolation: a path that stays above the level has no value, and neither has one whose first point is the
only one.
Formula: for neighbouring points with utility u1 >= level > u2, t = (u1 - level) / (u1 - u2); the gap is the
mean over groups of (1 - t) |d1[q]| + t |d2[q]|, with d of metrics/gap.py. The distances are interpolated,
not the scores: between a point far above `retrained` and one far below it the interpolated scores pass
`retrained` though no model does. By convexity this gap is never below that of the interpolated scores.
`gap_signed_at_matched_utility` is the mean of (1 - t) d1[q] + t d2[q].
Range: gap 0 upwards. Direction: lower is better.
Traps: joint utility is itself a least of parts, so between two points it need not be linear; more points,
less of that, and the row `matched` has a model there. `matched_step` says how far the run had come. What the
model says was not asked on the way. Runs that stay above the level have no value: a mean over the others is
one of survivors, so that nothing is claimed where a run of either row is missing (tables/comparisons.py).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from pipeline_lib.metrics.definition import AT_LEVEL, FORGET_SPLIT, INF, RUN_SPLIT, Metric
from pipeline_lib.metrics.joint_utility import blind
from pipeline_lib.metrics.needs import CROSSING, OTHER_RETRAINED, SIGHTED_PART
from pipeline_lib.metrics.probability import normalised_probability, probability
from pipeline_lib.metrics.questions import DIGITS, Questions
from pipeline_lib.metrics.rows import Row, answer_of, distractors_of
from pipeline_lib.metrics.statistics import Interval, without_interval
from pipeline_lib.metrics.study import Studied


def judged_row(rows: Mapping[str, Sequence[Row]], multiple_choice: Collection[str]) -> dict[str, Any]:
    """What is kept of a model on its way, from its likelihoods by split."""
    kept = {split: of_split for split, of_split in rows.items() if split != FORGET_SPLIT}
    return {
        "forget": {
            row["id"]: _rounded(-nll / tokens)
            for row in rows[FORGET_SPLIT]
            for nll, tokens in [answer_of(row)]
        },
        "utility": {
            split: _rounded(float(np.mean([_probability(row, split in multiple_choice) for row in of_split])))
            for split, of_split in kept.items()
        },
    }


def _probability(row: Row, choice: bool) -> float:
    if choice:
        return normalised_probability(*answer_of(row), *distractors_of(row))
    return probability(*answer_of(row))


def _rounded(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")


def parts_before(study: Studied) -> dict[str, float]:
    """Each utility split that is not blind, with its probability under `original` of the same seed."""
    return {
        split: study.original[split].mean("probability")
        for split in study.utility
        if not blind(study, (split, "probability"))
    }


def utility_of(judged: Mapping[str, Any], before: Mapping[str, float]) -> float:
    """Joint utility of likelihoods of a judged step; `before`: see `parts_before`, not empty."""
    return min(float(judged["utility"][split]) / value for split, value in before.items())


def crossing(utilities: Sequence[float], level: float) -> int | None:
    """Index of the last point before a path first falls below the level; None where it does not."""
    pairs = enumerate(pairwise(utilities))
    return next((i for i, (above, below) in pairs if above >= level > below), None)


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

    def at(self, level: float) -> Point | None:
        """Where the path first falls below a joint utility, interpolated; None where it does not."""
        at = crossing([point.utility for point in self.points], level)
        if at is None:
            return None
        above, below = self.points[at : at + 2]
        t = (above.utility - level) / (above.utility - below.utility)
        signed = (1 - t) * above.differences + t * below.differences
        distances = (1 - t) * above.distances + t * below.distances
        step = (1 - t) * above.step + t * below.step
        return Point(step, level, signed, distances, above.forget)


def matched_point(study: Studied) -> Point | None:
    """Where the path of a run crosses the level of its study; None where it was not judged on its way.

    Raises `NotMeasured` where there is no other `retrained`, no part of utility that counts, or no crossing.
    """
    if not study.judged or study.level is None:
        return None
    n = len(study.forget.ids)
    OTHER_RETRAINED.demand(len(study.retrained), n)
    found = Path.of(study).at(study.level)
    CROSSING.demand(found is not None, n)
    return found


def _value(study: Studied, name: str) -> Interval | None:
    found = study.once(matched_point)
    if found is None:
        return None
    values = {
        "gap": found.gap,
        "signed": found.forget.mean_over_groups(found.differences),
        "step": found.step,
        "early": float(found.step < study.judged[0][0]),
    }
    return without_interval(values[name], len(study.forget.ids))


MATCHED = Metric(
    name=AT_LEVEL,
    label="Gap to `retrained` at matched utility",
    short_label="Gap at matched utility",
    higher_is_better=False,
    higher_is_better_on_forget=False,
    range=(0, INF),
    source="this project",
    formula="the gap where the path of the run first falls below the suite's joint utility of likelihoods",
    trap="interpolated between two trained models; none where the path stays above the level",
    family="Against `retrained`",
    decimals=3,
    tables={"main": 5},
    on="study",
    needs=(OTHER_RETRAINED, CROSSING),
    no_interval="interpolated between two models",
    compute=lambda study: _value(study, "gap"),
    order=0.7,
    only_with=("trajectory",),
)
METRICS = [
    MATCHED,
    replace(
        MATCHED,
        name="gap_signed_at_matched_utility",
        label="Gap to `retrained` at matched utility, signed",
        short_label="Gap at matched utility, signed",
        higher_is_better=None,
        higher_is_better_on_forget=None,
        range=(-INF, INF),
        formula="the signed gap there",
        trap="as gap_signed",
        tables={},
        compute=lambda study: _value(study, "signed"),
        order=0.71,
    ),
    replace(
        MATCHED,
        name="matched_step",
        label="Step at matched utility",
        short_label="Step at matched utility",
        higher_is_better=None,
        higher_is_better_on_forget=None,
        formula="the step, interpolated, where the path first falls below that utility",
        trap="0 is `original`",
        tables={"main": 6},
        decimals=1,
        split=RUN_SPLIT,
        compute=lambda study: _value(study, "step"),
        order=0.72,
    ),
    replace(
        MATCHED,
        name="matched_in_warmup",
        label="Matched utility within the warm-up",
        short_label="Within the warm-up",
        higher_is_better=None,
        higher_is_better_on_forget=None,
        range=(0, 1),
        formula="1 where that step comes before the first that was judged, the last of the warm-up; else 0",
        trap="a coarse place: interpolated from `original` on, over steps whose rate still rises",
        tables={},
        decimals=0,
        split=RUN_SPLIT,
        compute=lambda study: _value(study, "early"),
        order=0.73,
    ),
]
