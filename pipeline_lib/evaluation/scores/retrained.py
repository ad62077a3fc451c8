"""The forget split held against `retrained`: KS tests of truth ratios and likelihoods on the same records."""

from __future__ import annotations

import numpy as np

from pipeline_lib.evaluation.metrics.forget_quality import LN10, forget_quality
from pipeline_lib.evaluation.metrics.likelihood_distance import token_nlls
from pipeline_lib.evaluation.metrics.needs import EQUAL_N
from pipeline_lib.evaluation.scores.rows import Row, answer_of, matched, metric_row, unmet, unmet_row
from pipeline_lib.evaluation.scores.split import VARIANTS, Split, log_ratios
from pipeline_lib.evaluation.statistics import interval, ks_equal_n, ks_log_p, ks_statistics, split_seed

TESTS = ("forget_quality", "forget_quality_log10", "ks_statistic")
_OUTER, _INNER = 200, 50  # resamples, and subsamples of each, for the interval at equal n


def score_forget_quality(split: Split, reference_rows: list[Row]) -> list[Row]:
    """KS test against `retrained` on matched questions, both models resampled together."""
    reference = matched(split.rows, reference_rows, split.name, "forget question")
    need = unmet("forget_quality", "split", split.rows) or unmet("forget_quality", "split", reference)
    if need is not None:
        names = [metric + suffix for _, suffix in VARIANTS for metric in TESTS]
        return [unmet_row(split.name, metric, need, len(reference), len(reference)) for metric in names]
    results = []
    for variant, suffix in VARIANTS:
        unlearned, retrained = log_ratios(split.rows, variant), log_ratios(reference, variant)
        test = forget_quality(unlearned, retrained)
        distances = ks_statistics(split.counts, unlearned, retrained)
        log10_p = ks_log_p(split.counts, distances) / LN10
        for metric, value, draws in zip(
            TESTS,
            (test.p_value, test.log10_p_value, test.ks_statistic),
            (10**log10_p, log10_p, distances),
            strict=True,
        ):
            found = interval(value, draws, len(split.rows), shifts=True)
            results.append(metric_row(split.name, metric + suffix, found))
    return results


def score_likelihood_distance(split: Split, reference_rows: list[Row]) -> list[Row]:
    """KS test on the mean token NLL of the answers, which every task has: metrics/likelihood_distance.py."""
    reference = matched(split.rows, reference_rows, split.name, "forget question")
    unlearned, retrained = token_nlls(map(answer_of, split.rows)), token_nlls(map(answer_of, reference))
    test = forget_quality(unlearned, retrained)
    distances = ks_statistics(split.counts, unlearned, retrained)
    return [
        metric_row(split.name, metric, interval(value, draws, len(split.rows), shifts=True))
        for metric, value, draws in (
            ("ks_statistic_likelihood", test.ks_statistic, distances),
            (
                "forget_quality_likelihood_log10",
                test.log10_p_value,
                ks_log_p(split.counts, distances) / LN10,
            ),
        )
    ]


def score_at_equal_n(split: Split, reference_rows: list[Row]) -> list[Row]:
    """The KS test at `EQUAL_N` questions, so that forget sets of different size can be compared.

    Not measured with fewer questions than that. The interval resamples the questions by group and takes the
    mean over subsamples of each resample anew; copies of a group that was drawn more than once count as
    groups.
    """
    reference = matched(split.rows, reference_rows, split.name, "forget question")
    n = len(split.rows)
    names = [f"{metric}_n{EQUAL_N}" for metric in TESTS]
    for of, subject in (("split", split.rows), ("split", reference), ("test", {"questions": n})):
        need = unmet(names[0], of, subject)
        if need is not None:
            return [unmet_row(split.name, metric, need, n, n) for metric in names]
    first, second = (np.array(log_ratios(rows, "geometric")) for rows in (split.rows, reference))
    groups = [row["group"] for row in split.rows]
    seed = split_seed(split.name)
    test = ks_equal_n(first, second, EQUAL_N, groups, seed=seed)
    draws = []
    for counts in split.counts[:_OUTER].astype(int):
        picked = np.repeat(np.arange(len(counts)), counts)
        copies = [(groups[i], copy) for i, count in enumerate(counts) for copy in range(count)]
        if len(picked) >= EQUAL_N:
            draws.append(
                ks_equal_n(first[picked], second[picked], EQUAL_N, copies, seed=seed, subsamples=_INNER)
            )
    return [
        metric_row(
            split.name,
            metric,
            interval(value, np.array([getattr(draw, field) for draw in draws]), n, shifts=True),
        )
        for metric, field, value in zip(
            names,
            ("p_value", "log10_p_value", "ks_statistic"),
            (test.p_value, test.log10_p_value, test.ks_statistic),
            strict=True,
        )
    ]
