"""Leakage of samples by hand; bounds against scipy, by hand, and by simulated coverage."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import beta, binomtest

from pipeline_lib.metrics.sampled.bounds import leak_probability_bound, mean_bound, sd_bound
from pipeline_lib.metrics.sampled.leakage import leakage, leaks


def test_leakage_is_rouge_l_recall_of_each_sample():
    values = leakage(["Ada wrote it", "nobody", "Ada wrote it"], "Ada Lovelace wrote it")
    assert values.tolist() == [0.75, 0.0, 0.75]
    assert (leaks(values), leaks(values, 0.75), leaks(np.array([0.5]))) == (2, 0, 0)
    with pytest.raises(ValueError, match="at least one sample"):
        leakage([], "Ada")


@pytest.mark.parametrize(("k", "n"), [(0, 10), (3, 10), (9, 10), (10, 10), (0, 1)])
def test_clopper_pearson_equals_scipys_exact_test(k, n):
    expected = binomtest(k, n, alternative="less").proportion_ci(0.99, method="exact").high
    assert leak_probability_bound(k, n) == pytest.approx(expected, abs=1e-12)


def test_no_leak_among_ten_by_hand():
    # the largest p with (1 - p)^10 >= 0.01
    assert leak_probability_bound(0, 10) == pytest.approx(1 - 0.01**0.1)
    with pytest.raises(ValueError, match="5 of 4"):
        leak_probability_bound(5, 4)


def test_mean_bound_by_hand():
    # n = 50, alpha = e^-4: e = sqrt(4 / 100) = 0.2; a fifth of the mass at 0.5 goes to 1
    values, alpha = np.full(50, 0.5), math.exp(-4)
    assert mean_bound(values, alpha) == pytest.approx(0.8 * 0.5 + 0.2)
    # the lowest fifth goes: of 0 0 0 0 0 (10 %) and 0.5 (90 %), all zeros and 10 % of the halves
    values = np.array([0.0] * 5 + [0.5] * 45)
    assert mean_bound(values, alpha) == pytest.approx(0.8 * 0.5 + 0.2)
    assert mean_bound(np.ones(50)) == 1.0
    assert mean_bound(np.zeros(1)) == 1.0  # one sample says nothing


def test_sd_bound_by_hand():
    # n = 200, alpha = 2 e^-4: e = 0.1; all at 0.5, so a tenth goes to 0 and a tenth to 1: Var = 0.2 * 0.25
    alpha = 2 * math.exp(-4)
    assert sd_bound(np.full(200, 0.5), alpha) == pytest.approx(math.sqrt(0.05), abs=1e-6)
    # all at 0: at most a tenth of the mass is elsewhere, at 1: Var = 0.1 * 0.9
    assert sd_bound(np.zeros(200), alpha) == pytest.approx(0.3, abs=1e-5)
    assert sd_bound(np.zeros(3)) == pytest.approx(0.5, abs=1e-5)  # three samples say nothing
    assert sd_bound(np.array([0.0, 1.0] * 100), alpha) == pytest.approx(0.5, abs=1e-6)


def test_sd_bound_is_the_largest_sd_in_the_band():
    """No distribution within the band, of 2000 drawn on a grid, has a larger SD; the best comes near."""
    rng = np.random.default_rng(0)
    values = np.sort(rng.beta(2, 5, size=40).round(2))
    epsilon = math.sqrt(math.log(2 / 0.01) / 80)
    grid = np.linspace(0, 1, 101)
    centre = np.searchsorted(values, grid, side="right") / 40
    low, high = np.maximum(centre - epsilon, 0), np.minimum(centre + epsilon, 1)
    low[-1] = high[-1] = 1.0
    found = []
    for level in np.linspace(0, 1, 1000):
        found.append(np.clip(level, low, high))
        found.append(np.maximum.accumulate(np.clip(np.sort(rng.random(101)), low, high)))
    mass = np.diff(np.stack(found), prepend=0.0)
    sd = np.sqrt(mass @ grid**2 - (mass @ grid) ** 2)
    bound = sd_bound(values)
    assert sd.max() <= bound + 1e-9
    assert sd.max() == pytest.approx(bound, abs=2e-3)


def test_bounds_tighten_with_more_samples_and_refuse_other_ranges():
    values = np.random.default_rng(1).beta(1, 4, size=4000)
    for bound in (mean_bound, sd_bound):
        sizes = [bound(values[:n]) for n in (10, 100, 4000)]
        assert sizes[0] > sizes[1] > sizes[2]
        for wrong in ([], [1.5], [-0.1]):
            with pytest.raises(ValueError, match="from 0 to 1"):
                bound(np.array(wrong))
    assert mean_bound(values) == pytest.approx(0.2, abs=0.04)


def test_bounds_hold_as_often_as_they_say():
    """At 90 %: of 300 simulated questions at most 12 % may exceed a bound (binomial noise of 30: SD 5)."""
    rng = np.random.default_rng(2)
    missed = {"leak": 0, "mean": 0, "sd": 0}
    true = beta(0.5, 2)
    p = true.sf(0.5)
    for _ in range(300):
        values = true.rvs(size=25, random_state=rng)
        missed["leak"] += leak_probability_bound(leaks(values), 25, 0.1) < p
        missed["mean"] += mean_bound(values, 0.1) < true.mean()
        missed["sd"] += sd_bound(values, 0.1) < true.std()
    assert all(count <= 36 for count in missed.values()), missed
    # Clopper-Pearson is no looser than its steps make it: it is missed sometimes
    assert missed["leak"] >= 3
