"""A model beside the other models of its study: the subject of metrics that need several of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np

from pipeline_lib.core.errors import UserError
from pipeline_lib.metrics.definition import FORGET_SPLIT, Metric
from pipeline_lib.metrics.further_seed import FurtherSeed
from pipeline_lib.metrics.questions import Questions
from pipeline_lib.metrics.rows import Row
from pipeline_lib.metrics.statistics import Interval, interval, resample_counts, split_seed
from pipeline_lib.metrics.subjects import Subject, measured

Scores = Mapping[str, Questions]  # of one model, by split
Judged = Sequence[tuple[int, Mapping[str, Any]]]  # steps of a run or a stage with what was judged after each


@dataclass(frozen=True, eq=False)
class Staged:
    """What a model after stages is held against.

    `before`: the scores of the same model without them. `retrained`: those of every `retrained` seed but the
    model itself, after the same stages; `seeds`: which these are, and `judged` how each was judged on its way
    there.
    `learned`: how many of the forget groups, the first ones, a stage taught; the others judge.
    `original`: the scores of `original` after the same stages, of the model's seed where there is one.
    """

    before: Scores
    retrained: Sequence[Scores]
    learned: int = 0
    seeds: Sequence[int] = ()
    judged: Sequence[Judged] = ()
    original: Scores | None = None


@dataclass(frozen=True, eq=False)
class Studied(Subject):
    """One model of a study.

    `retrained`: the scores of every `retrained` seed but the model itself. `original`: those of the model
    before unlearning that it is held against, of its own seed where there is one. `originals`: those of every
    seed.
    `utility`: names of the splits whose scores must not fall. `judged`: (step, `judged_row`) of a run or a
    stage that was judged on its way, and `level` the joint utility at which paths of runs are compared
    (path.py). `staged`: of a model to which stages were applied. `stages`: labels of stages -> this model
    after them.
    """

    scores: Scores
    retrained: Sequence[Scores]
    original: Scores
    originals: Sequence[Scores]
    utility: Sequence[str]
    judged: Judged = ()
    level: float | None = None
    staged: Staged | None = None
    stages: Mapping[str, Studied] = field(default_factory=dict)

    def __post_init__(self) -> None:
        staged = (self.staged.before, *self.staged.retrained) if self.staged else ()
        known = self.staged.original if self.staged else None
        for other in (*self.retrained, self.original, *self.originals, *staged, *([known] if known else ())):
            for name in self.scores.keys() & other.keys():
                if other[name].ids != self.scores[name].ids:
                    raise UserError(
                        f"two models of one study were asked different questions of split {name!r}, or "
                        f"in another "
                        "order. Evaluate all on the same records."
                    )

    @property
    def forget(self) -> Questions:
        return self.scores[FORGET_SPLIT]

    def measure(self, metric: Metric) -> Iterator[Row]:
        yield from measured(metric.split, metric, self)

    def aims(self) -> np.ndarray:
        """The forget questions' log-probability per token under every other `retrained` seed, (S, N)."""
        return np.stack([other[FORGET_SPLIT].values["log_probability"] for other in self.retrained])

    def further_seed(self) -> FurtherSeed:
        """What the other `retrained` seeds, at least two, say about one more of them."""
        return _further_seed(self.aims().tobytes(), self.forget.groups)


@cache
def _further_seed(values: bytes, groups: tuple[str, ...]) -> FurtherSeed:
    return FurtherSeed.of(np.frombuffer(values).reshape(-1, len(groups)), groups)


def over_groups(questions: Questions, values: np.ndarray) -> Interval:
    """Mean over the groups of their questions' mean of `values` (N,); a group drawn twice counts twice."""
    counts, of_group = resamples(questions, FORGET_SPLIT), questions.of_group
    draws = (
        counts / of_group.sum(axis=0)[of_group.argmax(axis=1)]
    ) @ values  # groups of one size weigh alike
    times = (counts @ of_group / of_group.sum(axis=0)).sum(axis=1)
    value = questions.mean_over_groups(values)
    return interval(value, draws / times, len(questions.ids), shifts=True)


def resamples(questions: Questions, split: str) -> np.ndarray:
    """The resamples (R, N) of a split that all models of a study share."""
    return _resamples(questions.groups, split_seed(split))


@cache
def _resamples(groups: tuple[str, ...], seed: int) -> np.ndarray:
    return resample_counts(groups, seed)
