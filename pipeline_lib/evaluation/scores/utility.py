"""Model Utility over the utility splits, and the model at equal retention."""

from __future__ import annotations

import numpy as np

from pipeline_lib.errors import UserError
from pipeline_lib.evaluation.metrics import (
    AT_EQUAL_RETAIN,
    FORGET_SPLIT,
    METRICS,
    RUN_SPLIT,
    UTILITY_SPLIT,
)
from pipeline_lib.evaluation.metrics.model_utility import harmonic_mean
from pipeline_lib.evaluation.metrics.probability import probability
from pipeline_lib.evaluation.scores.retrained import score_forget_quality, score_likelihood_distance
from pipeline_lib.evaluation.scores.rows import Row, answer_of, check_row, metric_row, plain_row
from pipeline_lib.evaluation.scores.split import VARIANTS, Split, score_split
from pipeline_lib.evaluation.statistics import group_bootstrap, interval, split_seed, varies, weighted_mean


def score_utility(names: list[str], splits: dict[str, Split]) -> list[Row]:
    """Model Utility; each split is resampled independently of the others."""
    chosen = [_utility_split(name, splits) for name in names]
    results = []
    for _, suffix in VARIANTS:
        columns = [
            (split.counts, split.values[metric])
            for split in chosen
            for metric in ("probability", "rouge_l_recall", f"truth_ratio{suffix}")
        ]
        value = harmonic_mean([values.mean() for _, values in columns])
        draws = harmonic_mean(np.stack([weighted_mean(*column) for column in columns], axis=1))
        if not varies(*(counts for counts, _ in columns)):  # a split of one group: no whole error either
            draws = np.full_like(draws, value)
        n = sum(len(split.rows) for split in chosen)
        results.append(
            metric_row(UTILITY_SPLIT, f"model_utility{suffix}", interval(float(value), draws, n, shifts=True))
        )
    return results


def _utility_split(name: str, splits: dict[str, Split]) -> Split:
    if name not in splits:
        raise UserError(f"split {name!r} counts towards Model Utility but is not evaluated; evaluate it too")
    split = splits[name]
    if "rouge_l_recall" not in split.values:
        raise UserError(
            f"Model Utility needs answers to split {name!r}, but only likelihoods are measured on it. Take "
            "the split out of `utility`."
        )
    if "truth_ratio" not in split.values:
        without = next(row["id"] for row in split.rows if not row["distractor_nll"])
        raise UserError(
            f"Model Utility needs the truth ratio of split {name!r}, but its record {without!r} has no "
            "distractors. Add them, or take the split out of `utility`."
        )
    return split


def score_equal_retain(
    content: Row, splits: dict[str, Split], reference_rows: list[Row] | None, multiple_choice: bool
) -> list[Row]:
    """The model mixed with the original: what it forgets, what it retains, and how much of it that is."""
    for row in content["forget"]:
        check_row(row)
    if [row["id"] for row in content["forget"]] != [row["id"] for row in splits[FORGET_SPLIT].rows]:
        raise UserError(
            "records.jsonl and equal_retain.json hold different forget questions: run the evaluation of this "
            "model again."
        )
    forget = score_split(FORGET_SPLIT, content["forget"], multiple_choice)
    results = []
    for metric in ("probability", "extraction_strength", "truth_ratio"):
        if metric in forget.values:
            results.append(metric_row(FORGET_SPLIT, metric + AT_EQUAL_RETAIN, forget.mean(metric)))
    compared = []
    if reference_rows is not None:
        compared = score_forget_quality(forget, reference_rows)
        compared += score_likelihood_distance(forget, reference_rows)
    for row in compared:
        if row["metric"] + AT_EQUAL_RETAIN in METRICS:
            results.append({**row, "metric": row["metric"] + AT_EQUAL_RETAIN})
    retain = content["retain"]
    split = retain[0]["split"]
    kept = group_bootstrap(
        [probability(*answer_of(row)) for row in retain],
        [row["group"] for row in retain],
        seed=split_seed(split),
    )
    results.append(metric_row(split, "probability" + AT_EQUAL_RETAIN, kept))
    # found by a search: it has no interval
    return [*results, plain_row(RUN_SPLIT, "equal_retain_mix", content["mix"], len(retain))]
