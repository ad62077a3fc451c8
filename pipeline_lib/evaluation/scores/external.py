"""Toxicity and benchmarks: rows that other evaluations wrote."""

from __future__ import annotations

import math

import numpy as np

from pipeline_lib.errors import UserError
from pipeline_lib.evaluation.metrics import TOXICITY_SPLIT
from pipeline_lib.evaluation.metrics.mmlu import GROUP_OF_SUBJECT, GROUPS
from pipeline_lib.evaluation.metrics.released.toxicity import released_toxic
from pipeline_lib.evaluation.metrics.toxicity import any_toxic, max_toxicity, mean_toxicity, toxic_share
from pipeline_lib.evaluation.scores.rows import Row, in_all, metric_row
from pipeline_lib.evaluation.scores.split import perplexity_rows
from pipeline_lib.evaluation.statistics import Interval, group_bootstrap, resample_counts, split_seed

MMLU = "mmlu"
_AGAIN = "Run this evaluation again."


def score_toxicity(rows: list[Row], judge: Row | None = None) -> list[Row]:
    """RealToxicityPrompts' numbers and the mean score, on split `toxicity`; intervals resample groups.

    Counts of blank and cut samples and the paper's own numbers follow where the rows hold them, and the
    classifier's AUC on labelled texts where `judge` knows one.
    """
    if not rows:
        raise UserError(f"the toxicity evaluation holds no prompt. {_AGAIN}")
    expected = len(rows[0]["scores"])
    for row in rows:
        scores = row["scores"]
        if not scores or len(scores) != expected or len(row["samples"]) != expected:
            raise UserError(
                f"toxicity prompt {row['id']!r} has {len(row['samples'])} samples and {len(scores)} scores, "
                f"the first one {expected}: each needs the same number, at least one. {_AGAIN}"
            )
        judged = [*scores, row["as_released"]["score"]] if "as_released" in row else scores
        if not all(math.isfinite(score) and 0 <= score <= 1 for score in judged):
            raise UserError(
                f"toxicity prompt {row['id']!r} has a score that is not from 0 to 1: the classifier is "
                "broken or gives no probability. Choose another one."
            )
    values = {
        "expected_max_toxicity": [max_toxicity(row["scores"]) for row in rows],
        "toxicity_probability": [any_toxic(row["scores"]) for row in rows],
        "mean_toxicity": [mean_toxicity(row["scores"]) for row in rows],
        "toxicity_rate": [toxic_share(row["scores"]) for row in rows],
    }
    for field, metric in (("blank", "blank_samples"), ("truncated", "cut_samples")):
        if in_all(rows, field):
            values[metric] = [row[field] / expected for row in rows]
    if in_all(rows, "as_released"):
        scores = [row["as_released"]["score"] for row in rows]
        values["mean_toxicity_as_released"] = scores
        values["toxicity_rate_as_released"] = [released_toxic(score) for score in scores]
    groups = [row["group"] for row in rows]
    seed = split_seed(TOXICITY_SPLIT)
    results = [
        metric_row(TOXICITY_SPLIT, metric, group_bootstrap(numbers, groups, seed=seed))
        for metric, numbers in values.items()
    ]
    validation = None if judge is None else judge["validation"]
    if validation is not None:
        found = Interval(*(validation[name] for name in ("auc", "low", "high", "n")))
        results.append(metric_row(TOXICITY_SPLIT, "classifier_auc", found))
    return results


def score_benchmarks(rows: list[Row]) -> list[Row]:
    """Each task on a split of its own name; MMLU over all questions and by its four groups of subjects.

    MMLU over all is the mean over questions, so that a subject counts by its size, as lm-evaluation-harness
    weighs it. Its intervals resample questions, not subjects: the 57 subjects are the benchmark, not a sample
    of subjects. Every other task resamples its rows' groups.
    """
    if not rows:
        raise UserError(f"the benchmarks hold no question. {_AGAIN}")
    tasks: dict[str, list[Row]] = {}
    for row in rows:
        tasks.setdefault(row["task"], []).append(row)
    results = []
    for task, found in tasks.items():
        results += _score_task(task, found)
        if task == MMLU:
            for row in found:
                if row["group"] not in GROUP_OF_SUBJECT:
                    raise UserError(
                        f"MMLU question {row['id']!r} is of subject {row['group']!r}, none of the 57. "
                        "Give it the subject's name, as in `high_school_physics`."
                    )
            for group in GROUPS:
                part = [row for row in found if GROUP_OF_SUBJECT[row["group"]] == group]
                results += _score_task(f"{MMLU}_{group}", part) if part else []
    return results


def _score_task(task: str, rows: list[Row]) -> list[Row]:
    kinds = {_kind(row) for row in rows}
    if len(kinds) > 1:
        raise UserError(f"benchmark {task!r} holds rows of different kinds: {', '.join(sorted(kinds))}.")
    groups = [row["id"] if row["task"] == MMLU else row["group"] for row in rows]
    kind = kinds.pop()
    if kind == "perplexity":
        nll, tokens, words, bytes_ = (
            [row[name] for row in rows] for name in ("nll", "tokens", "words", "bytes")
        )
        _check_finite(task, np.array([nll, tokens, words, bytes_], dtype=float))
        counts = resample_counts(groups, split_seed(task))
        return perplexity_rows(task, nll, tokens, words, bytes_, counts)
    columns = {"truthfulqa_mc2": "score"} if kind == "score" else {"benchmark_accuracy": "correct"}
    if kind == "choice":
        without = [row for row in rows if row["correct_norm"] is None]
        if 0 < len(without) < len(rows):
            raise UserError(
                f"benchmark {task!r}: question {without[0]['id']!r} has no `correct_norm`, others have "
                f"one. {_AGAIN}"
            )
        columns |= {} if without else {"benchmark_accuracy_norm": "correct_norm"}
    results = []
    for metric, field in columns.items():
        values = np.array([row[field] for row in rows], dtype=float)
        _check_finite(task, values)
        results.append(metric_row(task, metric, group_bootstrap(values, groups, seed=split_seed(task))))
    return results


def _kind(row: Row) -> str:
    for field, kind in (("correct", "choice"), ("score", "score"), ("nll", "perplexity")):
        if field in row:
            return kind
    raise UserError(f"benchmark row {row.get('id')!r} has none of `correct`, `score`, `nll`. {_AGAIN}")


def _check_finite(task: str, numbers: np.ndarray) -> None:
    if not np.isfinite(numbers).all():
        raise UserError(f"benchmark {task!r} holds a number that is not finite: the model is broken.")
