"""The paired interval of a difference: from the same questions under the row's models of both studies."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from pipeline_lib.core.runs import RowKey
from pipeline_lib.metrics.gap import differences as from_retrained
from pipeline_lib.metrics.joint_utility import LIKELIHOOD, SCORES, least_ratio, sighted
from pipeline_lib.metrics.questions import KEPT, Questions
from pipeline_lib.metrics.statistics import Interval, interval, weighted_mean
from pipeline_lib.metrics.study import Scores, Studied, over_groups, resamples
from pipeline_lib.operations.comparing.side import Side
from pipeline_lib.reporting.headline import Measure

OTHER_QUESTIONS = "other questions"

_SHAPES: dict[str, Callable[[np.ndarray], np.ndarray]] = {"gap": np.abs, "gap_signed": np.array}
_PARTS = {"joint_utility": SCORES, "joint_utility_likelihood": LIKELIHOOD}


class Unpaired(Exception):
    """Why there is no paired interval, in a few words."""


def paired(a: Side, b: Side, row: RowKey, measure: Measure) -> Interval:
    """The interval of B - A, without ends where every resample is alike; raises `Unpaired`."""
    split, metric = measure
    first, second = _models(a, b, row, measure)
    if metric in _PARTS:
        return _of_least_ratio(a, b, row.task, (first, second), metric)
    if not (metric in _SHAPES or _of_questions(first, second, split, metric)):
        raise Unpaired("not kept by question")
    _check_same(a, b, first[0], second[0], row.task, [split])
    questions = first[0].scores[split]
    if metric in _SHAPES:
        before, after = (
            np.mean([_SHAPES[metric](from_retrained(model)) for model in side], axis=0)
            for side in (first, second)
        )
        return over_groups(questions, after - before)
    before, after = (
        np.mean([model.scores[split].values[metric] for model in side], axis=0) for side in (first, second)
    )
    return _mean_over_questions(questions, split, after - before)


def _models(a: Side, b: Side, row: RowKey, measure: Measure) -> tuple[list[Studied], list[Studied]]:
    """The row's models in each study, one for each seed of the number."""
    if missing := [side.name for side in (a, b) if side.file("scores.csv") is None]:
        raise Unpaired(f"no scores.csv in {' and '.join(missing)}")
    keys = [[row.seeded(seed) for seed in side.values(row, measure)] for side in (a, b)]
    if not all(key in side.studied for side, of in zip((a, b), keys, strict=True) for key in of):
        raise Unpaired("scores.csv has not every model of the row")
    first, second = ([side.studied[key] for key in of] for side, of in zip((a, b), keys, strict=True))
    return first, second


def _of_least_ratio(
    a: Side, b: Side, task: str, models: tuple[Sequence[Studied], Sequence[Studied]], metric: str
) -> Interval:
    """Of joint utility; each study counts the parts that it has."""
    first, second = models
    parts = {model: sighted(model, _PARTS[metric]) for model in (*first, *second)}
    if not all(model.utility and found for model, found in parts.items()):
        raise Unpaired("scores.csv alone does not say which splits count")
    splits = {name for found in parts.values() for name, _ in found}
    _check_same(a, b, first[0], second[0], task, splits)
    (before, draws, n), (after, others, _) = (
        _mean(least_ratio(model, parts[model]) for model in side) for side in (first, second)
    )
    return interval(after - before, others - draws, n, shifts=True)


def _check_same(a: Side, b: Side, first: Studied, second: Studied, task: str, splits: Iterable[str]) -> None:
    if not same_questions(a, b, task, first.scores, second.scores, splits):
        raise Unpaired(OTHER_QUESTIONS)


def _of_questions(first: Sequence[Studied], second: Sequence[Studied], split: str, metric: str) -> bool:
    """Whether the metric is a mean over questions whose scores all of these models have."""
    return metric in KEPT and all(
        split in model.scores and model.scores[split].has(metric) for model in (*first, *second)
    )


def _mean_over_questions(questions: Questions, split: str, values: np.ndarray) -> Interval:
    """The mean of the questions' differences (N,), as a split has it of one model."""
    known = values[~np.isnan(values)]
    return interval(float(known.mean()), weighted_mean(resamples(questions, split), values), len(known))


def _mean(found: Iterable[tuple[float, np.ndarray, int]]) -> tuple[float, np.ndarray, int]:
    """The mean over seeds of a number and of its draws, (R,)."""
    values, draws, counts = zip(*found, strict=True)
    return float(np.mean(values)), np.mean(draws, axis=0), counts[0]


def same_questions(a: Side, b: Side, task: str, first: Scores, second: Scores, splits: Iterable[str]) -> bool:
    """Whether questions that both were asked are the same.

    By their ids and groups, and by the hashes of the data where both kept them, else by the settings that
    make the data: ids of generated questions may be alike.
    """
    shared = [split for split in splits if split in first and split in second]
    hashed = task in a.manifests and task in b.manifests
    if not hashed and a.suite and b.suite:
        here, there = (suite.settings_of(task).data_settings() for suite in (a.suite, b.suite))
        if here != there:
            return False
    others = other_data(a, b, task)
    return bool(shared) and all(
        (first[split].ids, first[split].groups) == (second[split].ids, second[split].groups)
        and not any(
            f"{split}_".startswith(f"{name}_") for name in others
        )  # also of a view such as retain_eval
        for split in shared
    )


def other_data(a: Side, b: Side, task: str) -> list[str]:
    """The splits of the data whose hashes both kept and which differ."""
    here, there = (side.manifests.get(task, {"splits": {}})["splits"] for side in (a, b))
    return [
        split for split in here if split in there and here[split].get("sha256") != there[split].get("sha256")
    ]
