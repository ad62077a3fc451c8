"""From per-example records to metrics with intervals. Needs no model and no torch.

What is computed on which split follows from the task's manifest; every metric's definition, source and
direction is in `metrics/`. Missing data is an error, with one exception: the truth ratio (and the forget
quality made from it) has no meaning for a record without wrong answers, so a split that holds such a record
has no truth-ratio rows. If that split counts towards Model Utility, that is an error again.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline_lib.errors import UserError
from pipeline_lib.evaluation.metrics import (
    AT_EQUAL_RETAIN,
    FORGET_SPLIT,
    RUN_SPLIT,
    UTILITY_SPLIT,
    direction,
)
from pipeline_lib.evaluation.metrics.exact_memorization import exact_memorization
from pipeline_lib.evaluation.metrics.extraction_strength import extraction_strength
from pipeline_lib.evaluation.metrics.forget_quality import LN10, forget_quality
from pipeline_lib.evaluation.metrics.model_utility import harmonic_mean
from pipeline_lib.evaluation.metrics.multiple_choice import chooses_answer
from pipeline_lib.evaluation.metrics.probability import normalised_probability, probability
from pipeline_lib.evaluation.metrics.rouge import rouge_recall
from pipeline_lib.evaluation.metrics.truth_ratio import Variant, forget_score, log_truth_ratio, truth_score
from pipeline_lib.evaluation.statistics import (
    Interval,
    group_bootstrap,
    interval,
    ks_log_p,
    ks_statistics,
    resample_counts,
    split_seed,
    weighted_mean,
)

Row = dict[str, Any]

# the truth ratio's variants and the suffix their metrics carry
VARIANTS: tuple[tuple[Variant, str], ...] = (("geometric", ""), ("arithmetic", "_arithmetic"))

NUMBERS = ("answer_nll", "answer_tokens", "paraphrase_nll", "paraphrase_tokens")
LISTS = ("distractor_nll", "distractor_tokens", "token_nll", "argmax_correct")
TEXTS = ("id", "group", "split", "prompt", "answer")


@dataclass(frozen=True)
class _Split:
    """The rows of one split, each metric's value for each row, and the shared resamples."""

    name: str
    rows: list[Row]
    values: dict[str, np.ndarray]  # metric -> (N,)
    counts: np.ndarray  # (R, N)


def score_run(
    rows: list[Row],
    reference_rows: list[Row] | None,
    manifest: dict[str, Any],
    equal_retain: Row | None = None,
) -> list[Row]:
    """The `metrics` list of metrics.json for one model.

    `rows` are the model's records of all evaluated splits, `reference_rows` those of `retrained` (only its
    forget split is used; None: no forget-quality rows), `manifest` the task's data/<task>/manifest.json,
    `equal_retain` the content of equal_retain.json (None or its status "off": no such rows).
    """
    choice = manifest["multiple_choice"]
    splits = {
        name: _score_split(name, split_rows, multiple_choice=name in choice)
        for name, split_rows in _by_split(rows, manifest["evaluate"]).items()
    }
    results = []
    for split in splits.values():
        for metric, values in split.values.items():
            draws = weighted_mean(split.counts, values)
            results.append(_row(split.name, metric, interval(values.mean(), draws, len(values))))
    if reference_rows is not None and FORGET_SPLIT in splits:
        results += _score_forget_quality(splits[FORGET_SPLIT], reference_rows)
    if manifest["utility"]:
        results += _score_utility([_utility_split(name, splits) for name in manifest["utility"]])
    if equal_retain is not None and equal_retain["status"] == "ok":
        results += _score_equal_retain(equal_retain, splits, reference_rows, FORGET_SPLIT in choice)
    return results


def _row(split: str, metric: str, result: Interval) -> Row:
    return {
        "split": split,
        "metric": metric,
        "value": result.value,
        "ci_low": result.low,
        "ci_high": result.high,
        "n": result.n,
        "higher_is_better": direction(split, metric),
    }


def _by_split(rows: list[Row], evaluate: list[str]) -> dict[str, list[Row]]:
    """Rows of each evaluated split in the manifest's order; every split must have rows, every row a split."""
    found: dict[str, list[Row]] = {name: [] for name in evaluate}
    for row in rows:
        _check_row(row)
        if "generation" not in row:
            raise UserError(
                f"{_where(row)} has no field `generation`: run the evaluation of this model again."
            )
        if row["split"] not in found:
            raise UserError(
                f"record {row['id']!r} is of split {row['split']!r}, but the task evaluates "
                f"{', '.join(evaluate)}. The records belong to another task or an older "
                "manifest: run the evaluation again."
            )
        found[row["split"]].append(row)
    empty = [name for name, split_rows in found.items() if not split_rows]
    if empty:
        raise UserError(
            f"the records hold no example of split {empty[0]!r}, which the task evaluates. "
            "Run the evaluation again; if `max_records` is set for the split, it must be at least 1."
        )
    return found


def _check_row(row: Row) -> None:
    """Refuse a record that lacks a likelihood or holds a number that is not finite."""
    where = _where(row)
    for name in (*TEXTS, *NUMBERS, *LISTS):
        if name not in row:
            raise UserError(f"{where} has no field `{name}`: run the evaluation of this model again.")
    numbers = [row[name] for name in NUMBERS] + [x for name in LISTS for x in row[name]]
    if not all(math.isfinite(x) for x in numbers):
        raise UserError(f"{where} holds a log-probability that is not finite: the model is broken.")
    if not row["argmax_correct"] or row["answer_tokens"] < 1 or row["paraphrase_tokens"] < 1:
        raise UserError(f"{where} has an answer without tokens: run the evaluation of this model again.")


def _where(row: Row) -> str:
    return f"record {row.get('id')!r} of split {row.get('split')!r}"


def _score_split(name: str, rows: list[Row], multiple_choice: bool) -> _Split:
    """Rows without an answer of the model's own (those at equal retention) have no ROUGE-L."""
    lists: dict[str, list[float]] = {}

    def add(metric: str, value: Callable[[Row], float]) -> None:
        lists[metric] = [value(row) for row in rows]

    if multiple_choice:
        for row in rows:
            if not row["distractor_nll"]:
                raise UserError(
                    f"record {row['id']!r} of multiple-choice split {name!r} has no wrong options; "
                    "give it `distractors` or take the split out of `multiple_choice`"
                )
        add("probability", lambda row: normalised_probability(*_answer(row), *_distractors(row)))
        add("multiple_choice_accuracy", lambda row: chooses_answer(*_answer(row), *_distractors(row)))
    else:
        add("probability", lambda row: probability(*_answer(row)))
    if all("generation" in row for row in rows):
        add("rouge_l_recall", lambda row: rouge_recall(row["generation"], row["answer"]))
    if _has_truth_ratio(rows):
        aggregate = forget_score if name == FORGET_SPLIT else truth_score
        for variant, suffix in VARIANTS:
            lists[f"truth_ratio{suffix}"] = [aggregate(x) for x in _log_ratios(rows, variant)]
    add("extraction_strength", lambda row: extraction_strength(row["argmax_correct"]))
    add("exact_memorization", lambda row: exact_memorization(row["argmax_correct"]))
    counts = resample_counts([row["group"] for row in rows], split_seed(name))
    return _Split(name, rows, {metric: np.array(values) for metric, values in lists.items()}, counts)


def _answer(row: Row) -> tuple[float, int]:
    return row["answer_nll"], row["answer_tokens"]


def _distractors(row: Row) -> tuple[list[float], list[int]]:
    return row["distractor_nll"], row["distractor_tokens"]


def _has_truth_ratio(rows: list[Row]) -> bool:
    return all(row["distractor_nll"] for row in rows)


def _log_ratios(rows: list[Row], variant: Variant) -> list[float]:
    return [
        log_truth_ratio(row["paraphrase_nll"], row["paraphrase_tokens"], *_distractors(row), variant)
        for row in rows
    ]


def _score_forget_quality(split: _Split, reference_rows: list[Row]) -> list[Row]:
    """KS test against `retrained` on matched questions, both models resampled together."""
    reference = {row["id"]: row for row in reference_rows if row.get("split") == FORGET_SPLIT}
    if not reference:
        raise UserError(
            "the records of `retrained` hold no forget question, so there is nothing to compare with. "
            "If its training diverged, lower its learning rate; otherwise evaluate it again."
        )
    ids = [row["id"] for row in split.rows]
    if set(ids) != set(reference):
        different = sorted(set(ids) ^ set(reference))
        raise UserError(
            f"the model and `retrained` were evaluated on different forget questions ({len(ids)} and "
            f"{len(reference)}; {different[0]!r} is in one of them only). Evaluate both on the same records."
        )
    matched = [reference[name] for name in ids]
    for row in matched:
        _check_row(row)
    if not (_has_truth_ratio(split.rows) and _has_truth_ratio(matched)):
        return []
    results = []
    for variant, suffix in VARIANTS:
        unlearned, retrained = _log_ratios(split.rows, variant), _log_ratios(matched, variant)
        test = forget_quality(unlearned, retrained)
        distances = ks_statistics(split.counts, unlearned, retrained)
        log10_p = ks_log_p(split.counts, distances) / LN10
        for metric, value, draws in (
            ("forget_quality", test.p_value, 10**log10_p),
            ("forget_quality_log10", test.log10_p_value, log10_p),
            ("ks_statistic", test.ks_statistic, distances),
        ):
            results.append(_row(split.name, metric + suffix, interval(value, draws, len(ids))))
    return results


def _score_equal_retain(
    content: Row, splits: dict[str, _Split], reference_rows: list[Row] | None, multiple_choice: bool
) -> list[Row]:
    """The model mixed with the original: what it forgets, what it retains, and how much of it that is."""
    for row in content["forget"]:
        _check_row(row)
    if [row["id"] for row in content["forget"]] != [row["id"] for row in splits[FORGET_SPLIT].rows]:
        raise UserError(
            "records.jsonl and equal_retain.json hold different forget questions: run the evaluation of this "
            "model again."
        )
    forget = _score_split(FORGET_SPLIT, content["forget"], multiple_choice)
    results = []
    for metric in ("probability", "extraction_strength", "truth_ratio"):
        if metric in forget.values:
            values = forget.values[metric]
            found = interval(values.mean(), weighted_mean(forget.counts, values), len(values))
            results.append(_row(FORGET_SPLIT, metric + AT_EQUAL_RETAIN, found))
    quality = [] if reference_rows is None else _score_forget_quality(forget, reference_rows)
    for row in quality:
        if row["metric"] in ("forget_quality_log10", "ks_statistic"):
            results.append({**row, "metric": row["metric"] + AT_EQUAL_RETAIN})
    retain = content["retain"]
    split = retain[0]["split"]
    kept = group_bootstrap(
        [probability(*_answer(row)) for row in retain],
        [row["group"] for row in retain],
        seed=split_seed(split),
    )
    results.append(_row(split, "probability" + AT_EQUAL_RETAIN, kept))
    share = content["mix"]
    mix = _row(RUN_SPLIT, "equal_retain_mix", Interval(share, share, share, len(retain)))
    return [*results, {**mix, "ci_low": None, "ci_high": None}]  # found by a search: it has no interval


def _utility_split(name: str, splits: dict[str, _Split]) -> _Split:
    if name not in splits:
        raise UserError(f"split {name!r} counts towards Model Utility but is not evaluated; evaluate it too")
    split = splits[name]
    if "truth_ratio" not in split.values:
        without = next(row["id"] for row in split.rows if not row["distractor_nll"])
        raise UserError(
            f"Model Utility needs the truth ratio of split {name!r}, but its record {without!r} has no "
            "distractors. Add them, or take the split out of `utility`."
        )
    return split


def _score_utility(splits: list[_Split]) -> list[Row]:
    """Model Utility; each split is resampled independently of the others."""
    results = []
    for _, suffix in VARIANTS:
        columns = [
            (split.counts, split.values[metric])
            for split in splits
            for metric in ("probability", "rouge_l_recall", f"truth_ratio{suffix}")
        ]
        value = harmonic_mean([values.mean() for _, values in columns])
        draws = harmonic_mean(np.stack([weighted_mean(*column) for column in columns], axis=1))
        n = sum(len(split.rows) for split in splits)
        results.append(_row(UTILITY_SPLIT, f"model_utility{suffix}", interval(float(value), draws, n)))
    return results
