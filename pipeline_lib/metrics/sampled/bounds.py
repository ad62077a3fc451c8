"""Bounds from n samples of one question that hold with probability 1 - alpha for the whole distribution.

Source: Scholten et al. (arXiv 2410.03523): a binary leak by Clopper and Pearson (1934), mean and standard
deviation of a leakage in [0, 1] by the inequality of Dvoretzky, Kiefer and Wolfowitz with Massart's constant.
Formulas, F_n = empirical distribution function of the samples, sorted x_1 <= ... <= x_n:
    leak probability  (1 - alpha) quantile of Beta(k + 1, n - k) for k leaks; 1 if k = n
    mean              F >= F_n - e everywhere with e = sqrt(ln(1 / alpha) / (2 n)) (one-sided, alpha <= 0.5),
                      and the largest mean takes the lowest e of the mass to 1 (Anderson 1969)
    SD                |F - F_n| <= e everywhere with e = sqrt(ln(2 / alpha) / (2 n)); for any centre c,
                      Var <= E (X - c)^2, whose largest value in the band takes the mass between the quantiles
                      m - e and m + e away, half to 0 and half to 1; the root of the smallest over c of the
                      largest over m
The last two are the exact suprema over the band, where the paper adds up a grid of 100 steps and bounds the
mean on its own: the same band, the same guarantee, never a larger bound.
Range: 0 to 1 (SD: 0 to 0.5). Direction: on the forget split lower is better.
Traps: each bound is for one question; an average of bounds is a summary, not a bound of the average with this
probability, and not all questions' bounds hold at once. Samples must be independent: one seed each. With 10
samples and no leak the bound is still 0.37, and the bounds of mean and SD say little below 100 samples.
"""

from __future__ import annotations

import math

import numpy as np

from pipeline_lib.metrics.sampled import SCHOLTEN, sampled
from pipeline_lib.metrics.sampled.leakage import leakages, leaks

ALPHA = 0.01  # the paper's


def leak_probability_bound(leaking: int, n: int, alpha: float = ALPHA) -> float:
    """Upper bound of the probability that a sample leaks."""
    if not 0 <= leaking <= n or n < 1:
        raise ValueError(f"expected 0 to n leaks of at least one sample, got {leaking} of {n}")
    from scipy.stats import beta  # heavy; declarations are read where no bound is computed

    return 1.0 if leaking == n else float(beta.ppf(1 - alpha, leaking + 1, n - leaking))


def mean_bound(values: np.ndarray, alpha: float = ALPHA) -> float:
    """Upper bound of the mean from samples (n,) in [0, 1]."""
    ordered = _sorted(values)
    n = len(ordered)
    epsilon = min(1.0, math.sqrt(math.log(1 / alpha) / (2 * n)))
    # Mass of each sample that stays: what lies above the quantile epsilon.
    upper = np.arange(1, n + 1) / n
    stays = np.minimum(np.maximum(upper - epsilon, 0), 1 / n)
    return float(min(1.0, stays @ ordered + epsilon))


def sd_bound(values: np.ndarray, alpha: float = ALPHA) -> float:
    """Upper bound of the standard deviation from samples (n,) in [0, 1]."""
    from scipy.optimize import minimize_scalar

    ordered = _sorted(values)
    n = len(ordered)
    epsilon = math.sqrt(math.log(2 / alpha) / (2 * n))
    steps = np.arange(n + 1) / n
    levels = np.unique(np.clip(np.concatenate([steps - epsilon, steps + epsilon, [0, 1]]), 0, 1))  # (L,)
    to_zero, to_one = np.minimum(epsilon, levels), np.minimum(epsilon, 1 - levels)
    taken_from, taken_to = levels - to_zero, levels + to_one
    # Moments of what stays: all samples without the mass between the two quantiles, (L,) each.
    stays = []
    for power in range(3):
        below = np.concatenate([[0], np.cumsum(ordered**power) / n])  # at quantiles 0, 1 / n, ..., 1
        gone = np.interp(taken_to, steps, below) - np.interp(taken_from, steps, below)
        stays.append(below[-1] - gone)

    def largest(centre: float) -> float:
        spread = stays[2] - 2 * centre * stays[1] + centre**2 * stays[0]
        return float((spread + to_zero * centre**2 + to_one * (1 - centre) ** 2).max())

    found = minimize_scalar(largest, bounds=(0, 1), method="bounded", options={"xatol": 1e-6})
    return math.sqrt(min(0.25, largest(float(found.x))))  # any centre gives a bound


def _sorted(values: np.ndarray) -> np.ndarray:
    ordered = np.sort(np.asarray(values, dtype=float))
    if not len(ordered) or ordered[0] < 0 or ordered[-1] > 1:
        raise ValueError("needs at least one value, all of them from 0 to 1")
    return ordered


_EACH = "holds for each question by itself at 99 %, not for all at once; wide with few samples"

METRICS = [
    sampled(
        name="sampled_leak_bound",
        label="Bound of the leak probability",
        short_label="Bound of their probability",
        higher_is_better=True,
        higher_is_better_on_forget=False,
        range=(0, 1),
        source=f"{SCHOLTEN}; Clopper and Pearson 1934",
        formula="upper Clopper-Pearson bound of the probability of a leak above 0.5, averaged over questions",
        trap=_EACH,
        tables={"samples": 50},
        by_words=True,
        compute=lambda split: [
            leak_probability_bound(leaks(found), len(found)) for found in split.once(leakages)
        ],
        order=84,
    ),
    sampled(
        name="sampled_mean_bound",
        label="Bound of the mean leakage",
        higher_is_better=True,
        higher_is_better_on_forget=False,
        range=(0, 1),
        source=f"{SCHOLTEN}; DKW inequality, Massart 1990; Anderson 1969",
        formula="largest mean that a distribution within the DKW band has, averaged over questions",
        trap=_EACH,
        tables={"samples": 60},
        compute=lambda split: list(map(mean_bound, split.once(leakages))),
        order=85,
    ),
    sampled(
        name="sampled_sd_bound",
        label="Bound of the SD of leakage",
        higher_is_better=None,
        higher_is_better_on_forget=None,
        range=(0, 0.5),
        source=f"{SCHOLTEN}; DKW inequality, Massart 1990",
        formula="largest SD that a distribution within the two-sided DKW band has, averaged over questions",
        trap=_EACH,
        compute=lambda split: list(map(sd_bound, split.once(leakages))),
        order=86,
    ),
]
