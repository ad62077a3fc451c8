"""From per-example records to metrics with intervals. Needs no model and no torch.

What is computed on which split follows from the task's manifest and from the fields that the rows have; every
metric's definition, source and direction is in `metrics/`. Missing data is an error, with these exceptions:
    needs           a metric that would say nothing true of a record or a split (metrics/needs.py) is not
                    measured there: a truth ratio without wrong answers, English refusals in Chinese, TPR at
                    1 % FPR with 40 non-members. `not_measured` says which and why. If a split without truth
                    ratios counts towards Model Utility, that is an error again.
    optional parts  (samples, similarities, gradient norms, the paper's own protocol) are there or not for a
                    whole split, as the settings of the evaluation say; part of a split is an error.
    no `retrained`  reference_rows None: nothing that compares with it. Rows without the records that are
                    needed are an error.
"""

from __future__ import annotations

from typing import Any

from pipeline_lib.evaluation.metrics import FORGET_SPLIT
from pipeline_lib.evaluation.scores.external import score_benchmarks, score_toxicity
from pipeline_lib.evaluation.scores.membership import score_membership
from pipeline_lib.evaluation.scores.released import score_as_released
from pipeline_lib.evaluation.scores.retrained import (
    score_at_equal_n,
    score_forget_quality,
    score_likelihood_distance,
)
from pipeline_lib.evaluation.scores.rows import Row, by_split
from pipeline_lib.evaluation.scores.split import corpus_rows, score_split, vocabulary_of
from pipeline_lib.evaluation.scores.utility import score_equal_retain, score_utility


def score_run(*args: Any, **kwargs: Any) -> list[Row]:
    """The `metrics` list of metrics.json for one model; arguments as of `score_all`."""
    return score_all(*args, **kwargs)[0]


def score_all(
    rows: list[Row],
    reference_rows: list[Row] | None,
    manifest: dict[str, Any],
    equal_retain: Row | None = None,
    toxicity_rows: list[Row] | None = None,
    benchmark_rows: list[Row] | None = None,
    judge: Row | None = None,
) -> tuple[list[Row], list[Row]]:
    """The lists `metrics` and `not_measured` of metrics.json for one model.

    `rows` are the model's records of all evaluated splits, `reference_rows` those of `retrained` (its forget
    split and the non-members; None: nothing that compares with it), `manifest` the task's
    data/<task>/manifest.json (`likelihood_only`, `membership` and `preference` may be absent: no such
    splits), `equal_retain` the content of equal_retain.json (None or its status "off": no such rows),
    `toxicity_rows` and `benchmark_rows` what these evaluations wrote (None: not measured), `judge` the
    content of the toxicity classifier's file judges/<task>.json.
    `not_measured` says what a metric needs that `not_measured` of the split's `of` records lack; where all
    lack it, the metric has no row.
    """
    choice = manifest["multiple_choice"]
    preference = manifest.get("preference", [])
    vocabulary = vocabulary_of([row for row in rows if "prompt" in row and "answer" in row])
    splits = {
        name: score_split(name, split_rows, name in choice, vocabulary, name in preference)
        for name, split_rows in by_split(
            rows, manifest["evaluate"], manifest.get("likelihood_only", [])
        ).items()
    }
    results: list[Row] = []
    for split in splits.values():
        results += split.unmet
        results += [split.mean_row(metric) for metric in split.values]
        results += corpus_rows(split)
    if reference_rows is not None and FORGET_SPLIT in splits:
        results += score_forget_quality(splits[FORGET_SPLIT], reference_rows)
        results += score_likelihood_distance(splits[FORGET_SPLIT], reference_rows)
        results += score_at_equal_n(splits[FORGET_SPLIT], reference_rows)
    if manifest["utility"]:
        results += score_utility(manifest["utility"], splits)
    if manifest.get("membership"):
        results += score_membership(splits, manifest["membership"], reference_rows)
    results += score_as_released(splits, choice)
    if toxicity_rows is not None:
        results += score_toxicity(toxicity_rows, judge)
    if benchmark_rows is not None:
        results += score_benchmarks(benchmark_rows)
    if equal_retain is not None and equal_retain["status"] == "ok":
        results += score_equal_retain(equal_retain, splits, reference_rows, FORGET_SPLIT in choice)
    found = [row for row in results if "not_measured" not in row]
    return found, [row for row in results if "not_measured" in row]
