"""Many paired comparisons at once: adjusted p-values, and what a study was able to see.

Sources: Holm 1979, Scandinavian Journal of Statistics 6, 65-70, for the adjustment; the power of the t-test
is the textbook one (noncentral t).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache

import numpy as np
from scipy import special  # not scipy.stats: the plan asks for the power too, and takes a second

LEVEL = 0.05  # of a whole family: the chance to claim a difference where there is none
POWER = 0.8
TIE = 1e-9  # values closer than this are alike: the rest is rounding
_POINTS = 4000  # of the mixture below; its error in the power is below 1e-4


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm's adjusted p-values; claiming what lies below `LEVEL` keeps the family's error rate there.

    In ascending order p(1) <= ... <= p(m): adjusted p(i) = max over j <= i of min(1, (m - j + 1) p(j)).
    None (no test was possible) stays None and counts as p = 1: that comparison was looked at, too.
    """
    order = sorted((p, i) for i, p in enumerate(p_values) if p is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    largest = 0.0
    for rank, (p, i) in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p))
        adjusted[i] = largest
    return adjusted


def detectable_difference(spread: float, n: int, comparisons: int) -> float:
    """The smallest true difference that a paired t-test claims with a probability of `POWER`.

    `spread` is the standard deviation of the differences over `n` >= 2 seeds. The test is two-sided at
    LEVEL / comparisons, the level that Holm's procedure demands of the smallest p-value of a family. It
    demands less of the others, so the number is an upper bound. Linear in `spread`, which is itself
    estimated.
    """
    return _shift(n, comparisons) * spread / float(np.sqrt(n))


def fewest_for_sign_flips(comparisons: int) -> int:
    """How many seeds an exact sign-flip test needs before it can claim any of so many differences.

    All signs of n differences are equally likely where nothing differs, so that its two-sided p is at least
    2 / 2^n, which Holm's first step multiplies by `comparisons`.
    """
    return math.ceil(math.log2(2 * comparisons / LEVEL))


def about_the_test(seeds: int, comparisons: int) -> str:
    """Which test is made over `seeds` >= 2, and why it is not the one that assumes less."""
    needed = fewest_for_sign_flips(comparisons)
    times = f", times {comparisons} at Holm's first step" if comparisons > 1 else ""
    floor = f"{2 / 2**seeds:.2g}"
    can = "so they could claim, too" if seeds >= needed else f"so they can claim nothing below {needed} seeds"
    return (
        "The test is Student's paired t-test over seeds, which takes their differences as normal. Exact sign "
        f"flips of {seeds} seeds, which do not, have p of {floor} or more{times}: {can}."
    )


@cache
def _shift(n: int, comparisons: int) -> float:
    """The detectable difference in standard errors."""
    critical = float(special.stdtrit(n - 1, 1 - LEVEL / comparisons / 2))
    # |T| > critical with T = (Z + shift) / W and W = sqrt(chi2 / (n - 1)): the mean over W's quantiles of a
    # normal tail. scipy's noncentral t gives NaN for such far tails with few degrees of freedom.
    quantiles = (np.arange(_POINTS) + 0.5) / _POINTS
    return shift_seen(critical * np.sqrt(2 * special.gammaincinv((n - 1) / 2, quantiles) / (n - 1)))


def shift_seen(critical: np.ndarray) -> float:
    """The shift s of a standard normal Z with which |Z + s| > critical has a probability of `POWER`.

    `critical`: equally likely values, (R,).
    """
    low, high = 0.0, float(critical.max()) + 10
    while high - low > 1e-9 * high:  # the power grows with the shift
        shift = (low + high) / 2
        power = np.mean(special.ndtr(shift - critical) + special.ndtr(-critical - shift))
        low, high = (shift, high) if power < POWER else (low, shift)
    return high
