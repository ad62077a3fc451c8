"""95 % intervals of a mean over seeds that stay inside the range of what is measured.

The mean m of k seeds and its standard error s / sqrt(k) are transformed to a scale without ends; Student's
t-interval is computed there, and its ends are transformed back:
    low and high finite   logit of x = (m - low) / (high - low); standard error / (x (1 - x)) by the delta
                          method
    one of them           logarithm of the distance d from it; standard error / d
    none                  the numbers themselves
So the interval holds the mean and no impossible value by construction, and is Student's where the seeds lie
close together (Lehmann and Casella 1998, Theory of Point Estimation, section 1.8, for the delta method).
Coverage in 20,000 simulated studies of Beta-distributed seeds, Student's interval in brackets: 3 seeds, mean
0.5, 95 % [94]; mean 0.05 with SD 0.04, 95 % [91], with SD 0.09, 90 % [73]; mean 0.01 with SD 0.02, 91 % [75];
5 seeds, mean 0.05 with SD 0.04, 94 % [91]. It falls short where the seeds are few and nearly all of them at
the end of the range: no interval from three numbers can know of the rare seed that is not among them.
benchmarks/intervals.py prints the table; a test repeats a part of it.

One value has no interval, and neither have values that are all alike: three seeds without variation do not
show that there is none. A difference of two rows (paired over seeds) has Student's own interval, cut at the
largest possible difference, so that it agrees with the paired t-test beside it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean, stdev

from scipy import stats

from pipeline_lib.reporting.paired import TIE

UNLIMITED = (-math.inf, math.inf)
POSITIVE = (0.0, math.inf)  # times, sizes, counts

Limits = tuple[float, float]
Ends = tuple[float, float, float] | tuple[float, None, None]  # value, low, high


def alike(values: Sequence[float]) -> bool:
    """Whether there is one value, or several that differ by rounding alone."""
    return max(values) - min(values) <= TIE * max(1.0, abs(values[0]))


def of_mean(values: Sequence[float], limits: Limits = UNLIMITED) -> Ends:
    """Mean and 95 % interval of values that all lie within `limits`."""
    low, high = limits
    rounding = [TIE * max(1.0, abs(end)) if math.isfinite(end) else 0.0 for end in limits]
    if not all(low - rounding[0] <= value <= high + rounding[1] for value in values):  # NaN is nowhere
        raise ValueError(f"expected values from {low:g} to {high:g}, found {', '.join(map(str, values))}")
    values = [min(max(value, low), high) for value in values]
    mean = fmean(values)
    if alike(values):
        return mean, None, None
    half = _half_width(values)
    if math.isfinite(low) and math.isfinite(high):
        share = (mean - low) / (high - low)
        half /= (high - low) * share * (1 - share)
        centre = math.log(share / (1 - share))
        below, above = _expit(centre - half), _expit(centre + half)
        return mean, low + (high - low) * below, low + (high - low) * above
    if math.isfinite(low):
        factor = math.exp(half / (mean - low))
        return mean, low + (mean - low) / factor, low + (mean - low) * factor
    if math.isfinite(high):
        factor = math.exp(half / (high - mean))
        return mean, high - (high - mean) * factor, high - (high - mean) / factor
    return mean, mean - half, mean + half


def of_difference(pairs: Sequence[float], limits: Limits = UNLIMITED, comparisons: int = 1) -> Ends:
    """Mean and Student's interval of paired differences of values within `limits`.

    With `comparisons` > 1 it is Bonferroni's: that many intervals hold at once with a probability of 95 %.
    """
    mean = fmean(pairs)
    if alike(pairs):
        return mean, None, None
    half, widest = _half_width(pairs, comparisons), limits[1] - limits[0]
    return mean, max(mean - half, -widest), min(mean + half, widest)


def _half_width(values: Sequence[float], comparisons: int = 1) -> float:
    return (
        float(stats.t.ppf(1 - 0.025 / comparisons, len(values) - 1)) * stdev(values) / math.sqrt(len(values))
    )


def _expit(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x > -700 else 0.0
