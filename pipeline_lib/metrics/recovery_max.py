"""The largest recovery over a sweep: everything that was tried on a model, and every step that was judged.

Source: this project.
Formula: a place k is a stage and, where the stage is judged on its way (`points` of `finetune`), one of its
judged steps. m_k = mean over forget groups of their questions' mean log p(answer) / tokens there, without the
groups that the stage teaches. `recovery_max` = max over k of [m_k(model) - mean over the S other `retrained`
seeds of m_k], in nats per token. `recovery_max_p`: the same maximum of each `retrained` seed s, left out and
held against the other S - 1,
    M_s = max over k of [m_k(s) - mean over the others of m_k],
and from these S maxima Student's prediction for one more: t = (recovery_max - mean M) / (sd M sqrt(1 + 1/S))
with S - 1 degrees of freedom, one-sided. `recovery_places`: how many places there are.
The stages are those that the model and some `retrained` went through, the seeds those that went through all
of these, the judged steps those that all of them have. Step 0, the model before the stage, is no place:
nothing was tried there yet.
Range: any. Direction: lower is better.
Needs: `retrained` in the `of` of a stage; for the p-value three seeds of it besides the model, because the
two maxima of two seeds come from one and the same difference.
Traps: the largest of several values grows with their number, so rows are compared by it only where they went
through the same stages. The p-value may be read whatever these are: it holds a row against `retrained` at the
row's own places. A `retrained` seed that broke in one stage counts for none of them. M_s is held against one
seed fewer than the model is, so that the test is lenient: of simulated models that never saw the data it
rejects fewer than its level (tests/metrics/test_recovery_max.py). A broken model does not recover: read joint
utility after the stages.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from functools import reduce

import numpy as np

from pipeline_lib.metrics.definition import FORGET_SPLIT, INF, RUN_SPLIT, Metric
from pipeline_lib.metrics.needs import STAGED_RETRAINED, THREE_STAGED_RETRAINED
from pipeline_lib.metrics.recovery import RECOVERY, SCORE, judges, p_of_one_more
from pipeline_lib.metrics.statistics import Interval, without_interval
from pipeline_lib.metrics.study import Judged, Scores, Staged, Studied


@dataclass(frozen=True, eq=False)
class Curve:
    """What is known of the judging forget groups after a stage, in nats per token.

    `steps`: the judged ones, in order, or None alone for the finished model of a stage that was not judged on
    its way. `model`: (K,) of the model at these places; `retrained`: (K, S) of the seeds of it.
    """

    steps: tuple[int | None, ...]
    model: np.ndarray
    retrained: np.ndarray


@dataclass(frozen=True)
class Largest:
    """Where the largest recovery lies: `step` None is the finished model."""

    value: float
    label: str
    step: int | None


def level(after: Studied, staged: Staged, known: np.ndarray) -> float:
    """Mean over the groups that judge `after` of each forget question's log-probability per token, (N,)."""
    places = judges(after, staged)
    return after.forget.at(places).mean_over_groups(known[places])


def curve(after: Studied, staged: Staged, seeds: Collection[int]) -> Curve:
    """Of a model after stages and of these `retrained` seeds, at the places that all of them have."""

    def levels(scores: Scores, judged: Judged) -> dict[int | None, float]:
        if not after.judged:
            return {None: level(after, staged, scores[FORGET_SPLIT].values[SCORE])}
        known = ((step, [row["forget"][name] for name in after.forget.ids]) for step, row in judged)
        return {step: level(after, staged, np.array(values)) for step, values in known}

    others = zip(staged.seeds, staged.retrained, staged.judged, strict=True)
    own = levels(after.scores, after.judged)
    found = [levels(scores, judged) for seed, scores, judged in others if seed in seeds]
    steps = tuple(step for step in own if all(step in of for of in found))
    retrained = np.array([[of[step] for of in found] for step in steps]).reshape(len(steps), len(found))
    return Curve(steps, np.array([own[step] for step in steps]), retrained)


def sweep(study: Studied) -> dict[str, Curve]:
    """By their labels, the stages that the model and some `retrained` went through.

    Empty where no seed of it went through all of them.
    """
    held = [
        (labels, after, after.staged)
        for labels, after in study.stages.items()
        if after.staged is not None and after.staged.retrained
    ]
    seeds = set.intersection(*(set(staged.seeds) for *_, staged in held)) if held else set()
    found = {labels: curve(after, staged, seeds) for labels, after, staged in held if seeds}
    return {labels: of for labels, of in found.items() if of.steps}


def largest(study: Studied) -> Largest:
    """The first of the largest; of a sweep with at least one place."""
    found = [
        Largest(float(value), labels, step)
        for labels, of in study.once(sweep).items()
        for step, value in zip(of.steps, of.model - of.retrained.mean(axis=1), strict=True)
    ]
    return reduce(lambda best, other: other if other.value > best.value else best, found)


def seeds_of(curves: Mapping[str, Curve]) -> int:
    """How many `retrained` seeds the model is held against."""
    return next((of.retrained.shape[1] for of in curves.values()), 0)


def left_out(curves: Mapping[str, Curve]) -> np.ndarray:
    """(S,) the largest recovery of each `retrained` seed, held against the others; of two seeds or more."""
    values = np.concatenate([of.retrained for of in curves.values()])  # (K, S)
    seeds = values.shape[1]
    return ((values - values.mean(axis=1, keepdims=True)) * seeds / (seeds - 1)).max(axis=0)


def _of(study: Studied) -> Mapping[str, Curve] | None:
    """The sweep over a model that went through stages; None of one that did not, or is itself after some."""
    if not study.stages:
        return None
    STAGED_RETRAINED.demand(len(study.once(sweep)), len(study.forget.ids))
    return study.once(sweep)


def _value(study: Studied) -> Interval | None:
    return None if _of(study) is None else without_interval(largest(study).value, len(study.forget.ids))


def _p_value(study: Studied) -> Interval | None:
    if (found := _of(study)) is None:
        return None
    THREE_STAGED_RETRAINED.demand(seeds_of(found), len(study.forget.ids))
    p = p_of_one_more(largest(study).value, left_out(found).tolist())
    return without_interval(p, len(study.forget.ids))


def _places(study: Studied) -> Interval | None:
    if (found := _of(study)) is None:
        return None
    return without_interval(sum(len(of.steps) for of in found.values()), len(study.forget.ids))


LARGEST = replace(
    RECOVERY,
    name="recovery_max",
    label="Largest recovery over all stages and judged steps",
    short_label="Largest recovery",
    formula="max over stages and their judged steps of [mean over forget groups of log p(answer), minus that "
    "of `retrained` there], nats per token",
    trap="grows with the number of places: compare rows that went through the same stages",
    no_interval="the largest of several",
    compute=_value,
    order=0.83,
)
METRICS: list[Metric] = [
    LARGEST,
    replace(
        LARGEST,
        name="recovery_max_p",
        label="Probability of such a largest recovery for a further `retrained` seed",
        short_label="p (largest recovery)",
        higher_is_better=True,
        higher_is_better_on_forget=True,
        range=(0, 1),
        formula="one-sided, by Student's prediction for one more from the same maximum of each left-out "
        "`retrained` seed",
        trap="with few `retrained` seeds little is told apart",
        needs=(STAGED_RETRAINED, THREE_STAGED_RETRAINED),
        no_interval="a p-value",
        compute=_p_value,
        order=0.84,
    ),
    replace(
        LARGEST,
        name="recovery_places",
        label="Stages and judged steps over which the largest recovery is",
        short_label="Places",
        higher_is_better=None,
        higher_is_better_on_forget=None,
        range=(1, INF),
        formula="number of stages and judged steps that the model and every `retrained` seed have",
        trap="a stage that broke in one `retrained` seed counts for no row",
        split=RUN_SPLIT,
        decimals=0,
        compute=_places,
        order=0.85,
    ),
]
