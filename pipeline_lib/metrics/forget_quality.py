"""Forget Quality: are the truth ratios of an unlearned model distinguishable from those of `retrained`?

Source: TOFU (arXiv 2401.06121, section 2.2.3).
Formula: p-value of the two-sided two-sample Kolmogorov-Smirnov test between the truth ratios R of the forget
rows under the unlearned and the retrained model. Any monotone form of R (log R, 1/R) gives the same test.
Range: p 0 to 1, D 0 to 1. Direction: higher p is better (p near 1: indistinguishable), lower D is better.
Traps: p depends on the number of rows n (the same D = 0.4 is p = 3e-3 at n = 40 and 1e-28 at n = 400), so D
and n always go with it, and forget sets of different size are compared with `ks_equal_n` (statistics.py).
A high p is no proof of forgetting: with few rows the test sees little. The test takes rows as independent,
which rows of one author are not. SOUL's released code compares forget and retain rows of one model instead:
another quantity under the same name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from math import log
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from pipeline_lib.metrics.definition import INF, Metric, at_equal_retain
from pipeline_lib.metrics.needs import EQUAL_N, FORTY_QUESTIONS, WRONG_ANSWERS
from pipeline_lib.metrics.statistics import (
    LN10,
    Interval,
    interval,
    ks_equal_n,
    ks_log_p,
    ks_statistics,
    log_p_equal_n,
    split_seed,
)
from pipeline_lib.metrics.subjects import Pair
from pipeline_lib.metrics.truth_ratio import TOFU_UTILS, Variant, log_ratios

_OUTER, _INNER = 200, 50  # resamples, and subsamples of each, for the interval at equal n


@dataclass(frozen=True)
class ForgetQuality:
    """One test. `log10_p_value` stays finite where `p_value` underflows to 0."""

    p_value: float
    log10_p_value: float
    ks_statistic: float
    n_unlearned: int
    n_retrained: int


def forget_quality(unlearned: ArrayLike, retrained: ArrayLike) -> ForgetQuality:
    """KS test between two samples of (log) truth ratios, `scipy.stats.ks_2samp` with its default method.

    Raises ValueError for an empty sample and for values that are not finite.
    """
    from scipy.stats import ks_2samp  # heavy; declarations are read where no test is made

    first, second = np.asarray(unlearned, dtype=float), np.asarray(retrained, dtype=float)
    if not (len(first) and len(second)):
        raise ValueError(f"a KS test needs rows on both sides, found {len(first)} and {len(second)}")
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        raise ValueError("truth ratios must be finite; take logarithms of ratios that overflow")
    result = ks_2samp(first, second)
    statistic, p_value = float(result.statistic), float(result.pvalue)
    if len(first) == len(second):
        log10_p = log_p_equal_n(round(statistic * len(first)), len(first)) / LN10
    elif p_value > 0:
        log10_p = log(p_value) / LN10
    else:  # underflow at unequal n: first term of the limiting distribution, 2 exp(-2 D^2 n m / (n + m))
        effective = len(first) * len(second) / (len(first) + len(second))
        log10_p = (log(2) - 2 * statistic**2 * effective) / LN10
    return ForgetQuality(p_value, log10_p, statistic, len(first), len(second))


class Tested(NamedTuple):
    """The numbers of one test with their intervals."""

    p: Interval
    log10_p: Interval
    distance: Interval


def ks_intervals(pair: Pair, unlearned: ArrayLike, retrained: ArrayLike) -> Tested:
    """The KS test, both models resampled together on the same questions."""
    test = forget_quality(unlearned, retrained)
    counts, n = pair.split.counts, len(pair.reference)
    distances = ks_statistics(counts, counts, unlearned, retrained)
    log10_p = ks_log_p(counts, distances) / LN10
    return Tested(
        interval(test.p_value, 10**log10_p, n, shifts=True),
        interval(test.log10_p_value, log10_p, n, shifts=True),
        interval(test.ks_statistic, distances, n, shifts=True),
    )


def _of_truth_ratios(pair: Pair, variant: Variant) -> Tested:
    return ks_intervals(pair, log_ratios(pair.split.rows, variant), log_ratios(pair.reference, variant))


def _at_equal_n(pair: Pair) -> Tested:
    """The KS test at `EQUAL_N` questions, so that forget sets of different size can be compared.

    The interval resamples the questions by group and takes the mean over subsamples of each resample anew;
    copies of a group that was drawn more than once count as groups.
    """
    split, n = pair.split, len(pair.reference)
    FORTY_QUESTIONS.demand(n, n)
    first, second = (np.array(log_ratios(rows, "geometric")) for rows in (split.rows, pair.reference))
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
    return Tested(
        *(
            interval(getattr(test, name), np.array([getattr(draw, name) for draw in draws]), n, shifts=True)
            for name in ("p_value", "log10_p_value", "ks_statistic")
        )
    )


P_VALUE = Metric(
    name="forget_quality",
    label="Forget Quality (p)",
    short_label="Forget quality p",
    higher_is_better=True,
    higher_is_better_on_forget=True,
    range=(0, 1),
    source="TOFU, arXiv 2401.06121",
    formula="p of the two-sample KS test between R of this model and of `retrained` on the forget questions",
    trap="shrinks with the number of questions; a high p is no proof of forgetting",
    family="Likelihood and truth (TOFU)",
    needs=(WRONG_ANSWERS,),
    of="pair",
    compute=lambda pair: pair.once(_of_truth_ratios, "geometric").p,
    order=200,
)
LOG10_P = replace(
    P_VALUE,
    name="forget_quality_log10",
    label="Forget Quality (log10 p)",
    short_label="Forget quality log10 p",
    range=(-INF, 0),
    formula="log10 of that p, exact below the smallest float",
    trap="as above",
    decimals=1,
    compute=lambda pair: pair.once(_of_truth_ratios, "geometric").log10_p,
    order=201,
)
DISTANCE = replace(
    P_VALUE,
    name="ks_statistic",
    label="KS statistic D",
    short_label="KS D",
    higher_is_better=False,
    higher_is_better_on_forget=False,
    formula="largest gap between the two distributions of R",
    trap="two alike models are about 1.2 / sqrt(n) apart",
    compute=lambda pair: pair.once(_of_truth_ratios, "geometric").distance,
    order=202,
)


def _number(pair: Pair, compute: Callable[[Pair], Tested], i: int) -> Interval:
    return pair.once(compute)[i]


def _variant(
    suffix: str,
    what: str,
    first: int,
    compute: Callable[[Pair], Tested],
    texts: tuple[tuple[str, str], ...],
    **changes: Any,
) -> Iterator[Metric]:
    """The three numbers of the test in another form; `texts`: formula and trap of each."""
    for i, (metric, (formula, trap)) in enumerate(zip((P_VALUE, LOG10_P, DISTANCE), texts, strict=True)):
        yield replace(
            metric,
            name=metric.name + suffix,
            label=f"{metric.label} ({what})".replace(") (", ", "),
            short_label="",
            formula=formula,
            trap=trap,
            compute=partial(_number, compute=compute, i=i),
            order=first + i,
            **changes,
        )


METRICS = [
    P_VALUE,
    LOG10_P,
    DISTANCE,
    *_variant(
        "_arithmetic",
        "arithmetic",
        203,
        partial(_of_truth_ratios, variant="arithmetic"),
        texts=(
            ("the KS test on the arithmetic R", "as forget_quality"),
            ("log10 of that p", "as forget_quality"),
            ("D of the arithmetic R", "as ks_statistic"),
        ),
        source=TOFU_UTILS,
    ),
    *_variant(
        f"_n{EQUAL_N}",
        f"{EQUAL_N} questions",
        220,
        _at_equal_n,
        texts=(
            (
                f"mean p of the KS test over subsamples of {EQUAL_N} questions",
                "a mean of p-values is no p-value; only to compare forget sets of different size",
            ),
            ("mean log10 p over these subsamples", "as above"),
            ("mean D over these subsamples", "larger than D of all questions: fewer rows, more noise"),
        ),
        source="subsampling; see ks_equal_n in statistics.py",
        needs=(WRONG_ANSWERS, FORTY_QUESTIONS),
    ),
    at_equal_retain(LOG10_P, order=710),
    at_equal_retain(DISTANCE, order=711, tables={"main": 10}),
]
