"""The paper's own protocol from rows that hold `as_released` (see metrics/released)."""

from __future__ import annotations

import numpy as np

from pipeline_lib.errors import UserError
from pipeline_lib.evaluation.metrics import FORGET_SPLIT
from pipeline_lib.evaluation.metrics.bleu import released_bleu
from pipeline_lib.evaluation.metrics.released.accuracy import contains_answer, most_similar_or_tied
from pipeline_lib.evaluation.metrics.released.forget_quality import released_forget_quality
from pipeline_lib.evaluation.metrics.released.membership import PERCENTS, released_auc, released_score
from pipeline_lib.evaluation.metrics.released.probability import released_probability
from pipeline_lib.evaluation.metrics.released.truth_ratio import released_truth_ratio
from pipeline_lib.evaluation.metrics.rouge import rouge_recall
from pipeline_lib.evaluation.scores.rows import Row, in_all, plain_row, where
from pipeline_lib.evaluation.scores.split import Split, apply_needs


def score_as_released(splits: dict[str, Split], multiple_choice: list[str]) -> list[Row]:
    """Rows of metrics `..._as_released`, on every split whose rows hold `as_released`.

    Retain questions are those of `retain_eval`, or of `retain` where there is no such split; "real authors
    and world facts" are the multiple-choice splits in their order.
    """
    measured = {name: split for name, split in splits.items() if in_all(split.rows, "as_released")}
    results, ratios = [], {}
    for name, split in measured.items():
        values = _values(split.rows, name in multiple_choice)
        ratios[name] = values.get("truth_ratio_as_released")
        found = Split(name, split.rows, {k: np.array(v) for k, v in values.items()}, split.counts, [])
        results += apply_needs(name, split.rows, found.values)
        results += [found.mean_row(metric) for metric in found.values]
    forget, retain = ratios.get(FORGET_SPLIT), ratios.get("retain_eval") or ratios.get("retain")
    if forget and retain:
        p_value, distance = released_forget_quality(forget, retain)
        n = len(forget) + len(retain)
        results.append(plain_row(FORGET_SPLIT, "forget_quality_as_released", p_value, n))
        results.append(plain_row(FORGET_SPLIT, "ks_statistic_as_released", distance, n))
    others = [row for name in multiple_choice if name in measured for row in measured[name].rows]
    if others and FORGET_SPLIT in measured:
        results += _membership(measured[FORGET_SPLIT].rows, others)
    return results


def _values(rows: list[Row], with_options: bool) -> dict[str, list[float]]:
    """Metric -> a value of each row."""
    asked = [row["as_released"] for row in rows]
    values = {
        "probability_as_released": [
            released_probability(found.get("answer_token_nll", row["token_nll"]))
            for row, found in zip(rows, asked, strict=True)
        ]
    }
    if all(found["distractor_nll"] for found in asked):
        values["truth_ratio_as_released"] = [
            released_truth_ratio(
                found["paraphrase_nll"],
                found["paraphrase_tokens"],
                found["distractor_nll"],
                found["distractor_tokens"],
            )
            for found in asked
        ]
        if not with_options and all("similarity" in found for found in asked):
            values["accuracy_as_released"] = [most_similar_or_tied(found["similarity"]) for found in asked]
    if in_all(rows, "generation"):
        said = [found.get("answer", row["generation"]) for row, found in zip(rows, asked, strict=True)]
        right = [row["answer"] for row in rows]
        if with_options:
            values["accuracy_as_released"] = list(map(contains_answer, said, right))
        values["bleu_as_released"] = list(map(released_bleu, said, right))
    if all("adversarial" in found for found in asked):
        told = [found["adversarial"] for found in asked]
        values["rouge_l_adversarial_as_released"] = [
            rouge_recall(of["generation"], row["answer"]) for of, row in zip(told, rows, strict=True)
        ]
        if all("similarity" in of for of in told):
            values["accuracy_adversarial_as_released"] = [
                most_similar_or_tied(of["similarity"]) for of in told
            ]
    return values


def _membership(forget: list[Row], others: list[Row]) -> list[Row]:
    """One AUC a K; no interval, since the labels do not belong to the rows."""
    shortest = min([*forget, *others], key=lambda row: len(row["as_released"]["text_token_nll"]))
    if len(shortest["as_released"]["text_token_nll"]) < 100 / min(PERCENTS):
        raise UserError(
            f"{where(shortest)} is a text of fewer than {100 // min(PERCENTS)} tokens, for which the "
            "paper's membership test gives no number. Switch `as_released` off for this task."
        )
    n = len(forget) + len(others)
    results = []
    for percent in PERCENTS:
        first, second = (
            [released_score(row["as_released"]["text_token_nll"], percent) for row in rows]
            for rows in (forget, others)
        )
        value = released_auc(first, second)
        results.append(plain_row(FORGET_SPLIT, f"mia_min_k_{percent}_as_released", value, n))
    return results
