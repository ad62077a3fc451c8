"""Forget Quality: are the truth ratios of an unlearned model distinguishable from those of `retrained`?

Source: TOFU (arXiv 2401.06121, section 2.2.3).
Formula: p-value of the two-sided two-sample Kolmogorov-Smirnov test between the truth ratios R of the forget
rows under the unlearned and the retrained model. Any monotone form of R (log R, 1/R) gives the same test.
Range: p 0 to 1, D 0 to 1. Direction: higher p is better (p near 1: indistinguishable), lower D is better.
Traps: p depends on the number of rows n (the same D = 0.4 is p = 3e-3 at n = 40 and 1e-28 at n = 400), so D
and n always go with it, and forget sets of different size are compared with `ks_equal_n` (../statistics.py).
A high p is no proof of forgetting: with few rows the test sees little. The test takes rows as independent,
which rows of one author are not. SOUL's released code compares forget and retain rows of one model instead:
another quantity under the same name.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from math import exp, lgamma, log

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import ks_2samp

LN10 = log(10)


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


@cache
def log_p_equal_n(steps: int, n: int) -> float:
    """Natural log of the exact p-value of D = steps / n for two samples of n without ties.

    p = 2 * sum over j >= 1 of (-1)^(j-1) C(2n, n - j steps) / C(2n, n)   (Gnedenko and Korolyuk 1951)
    The first term is taken out, so that the logarithm is right far below the smallest float.
    """
    if steps == 0:
        return 0.0

    def log_binomial(k: int) -> float:
        return lgamma(2 * n + 1) - lgamma(k + 1) - lgamma(2 * n - k + 1)

    first = log_binomial(n - steps)
    rest = 0.0
    for j in range(n // steps, 1, -1):  # smallest terms first
        rest += (-1) ** (j - 1) * exp(log_binomial(n - j * steps) - first)
    return min(0.0, log(2) + first - log_binomial(n) + log(1 + rest))
