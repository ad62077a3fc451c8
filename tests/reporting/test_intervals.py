"""Intervals over seeds: by hand, inside the range, none where nothing varied, as sure as they say."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import t

from pipeline_lib.metrics import declared
from pipeline_lib.reporting.intervals import POSITIVE, UNLIMITED, of_difference, of_mean

SHARE = (0.0, 1.0)


def test_students_interval_where_the_range_has_no_end() -> None:
    # 0.4, 0.5, 0.6: mean 0.5, s = 0.1, t(0.975, 2) = 4.3027, half width 4.3027 * 0.1 / sqrt(3) = 0.24841.
    assert of_mean([0.4, 0.5, 0.6]) == pytest.approx((0.5, 0.25159, 0.74841), abs=1e-5)


def test_on_the_scale_of_the_logit_by_hand() -> None:
    # The same seeds as shares: logit 0, half width 0.24841 / (0.5 * 0.5) = 0.99366, and
    # 1 / (1 + exp(-0.99366)) = 0.72981.
    assert of_mean([0.4, 0.5, 0.6], SHARE) == pytest.approx((0.5, 0.27019, 0.72981), abs=1e-5)
    # BLEU: the same a hundredfold.
    assert of_mean([40, 50, 60], (0, 100)) == pytest.approx((50, 27.019, 72.981), abs=1e-3)


def test_on_the_scale_of_the_logarithm_by_hand() -> None:
    # Perplexities 2 and 4: 2 above the end at 1, standard error 1, t(0.975, 1) = 12.7062, factor exp(6.3531).
    factor = math.exp(12.7062 / 2)
    assert of_mean([2.0, 4.0], (1, math.inf)) == pytest.approx((3, 1 + 2 / factor, 1 + 2 * factor), rel=1e-4)
    # log10 p: the mirror image.
    assert of_mean([-1.0, -3.0], (-math.inf, 0)) == pytest.approx((-2, -2 * factor, -2 / factor), rel=1e-4)


@pytest.mark.parametrize("limits", {metric.range for metric in declared().values()} | {UNLIMITED, POSITIVE})
def test_the_interval_holds_the_mean_and_stays_in_the_range(limits: tuple[float, float]) -> None:
    """Of any seeds at all, also where most lie on an end: what was printed as KS D up to 1.23."""
    rng = np.random.default_rng(0)
    low, high = (
        end if math.isfinite(end) else 50.0 * sign for end, sign in zip(limits, (-1, 1), strict=True)
    )
    for seeds in (2, 3, 5, 20):
        for _ in range(200):
            values = np.where(rng.random(seeds) < 0.4, rng.choice([low, high]), rng.uniform(low, high, seeds))
            mean, below, above = of_mean(list(values), limits)
            assert mean == pytest.approx(values.mean())
            if below is not None:
                assert limits[0] <= below <= mean <= above <= limits[1]


@pytest.mark.parametrize("values", [[0.3], [0.0, 0.0, 0.0], [1.0, 1.0], [0.1 + 0.2, 0.3]])
def test_nothing_varied_no_interval(values: list[float]) -> None:
    for found in (of_mean(values, SHARE), of_difference(values, SHARE)):
        assert found[1:] == (None, None)


def test_values_outside_of_the_range_are_refused() -> None:
    for values in ([0.5, 1.5], [1.5, 1.5], [-0.1], [0.5, math.nan], [math.nan, 0.5]):
        with pytest.raises(ValueError, match="expected values from 0 to 1, found"):
            of_mean(values, SHARE)


def test_rounding_beyond_an_end_is_the_end() -> None:
    assert of_mean([-1e-12, 0.2], SHARE) == of_mean([0.0, 0.2], SHARE)
    assert of_mean([1 + 1e-12, 0.8], SHARE) == of_mean([1.0, 0.8], SHARE)


def test_a_difference_agrees_with_the_t_test_and_stays_possible() -> None:
    assert of_difference([0.4, 0.5, 0.6]) == pytest.approx((0.5, 0.25159, 0.74841), abs=1e-5)
    # Two seeds, half width 12.7 * 0.1: no difference of two shares is beyond 1.
    assert of_difference([0.8, 1.0], SHARE)[1:] == pytest.approx((0.9 - 1.27062, 1.0), abs=1e-4)
    # Bonferroni for 5: t(0.995, 2) = 9.9248
    assert of_difference([0.4, 0.5, 0.6], comparisons=5)[1] == pytest.approx(
        0.5 - 9.9248 * 0.1 / 3**0.5, abs=1e-5
    )


def coverage(seeds: int, mean: float, concentration: float, studies: int = 2000) -> tuple[float, float]:
    """Share of studies with Beta-distributed seeds whose interval holds the mean: ours, and Student's."""
    rng = np.random.default_rng(7)
    ours = students = varied = 0
    for values in rng.beta(mean * concentration, (1 - mean) * concentration, (studies, seeds)):
        _, low, high = of_mean(list(values), SHARE)
        if low is None or high is None:
            continue
        half = t.ppf(0.975, seeds - 1) * values.std(ddof=1) / math.sqrt(seeds)
        ours += low <= mean <= high
        students += abs(values.mean() - mean) <= half
        varied += 1
    return ours / varied, students / varied


@pytest.mark.parametrize("seeds", [3, 5])
@pytest.mark.parametrize(("mean", "concentration"), [(0.5, 5), (0.5, 30), (0.2, 30), (0.95, 30), (0.05, 30)])
def test_coverage_is_nominal_for_three_and_five_seeds(seeds: int, mean: float, concentration: float) -> None:
    """SD 0.2 to 0.04; 2,000 studies have a standard error of 0.5 points."""
    ours, students = coverage(seeds, mean, concentration)
    assert 0.93 <= ours <= 0.97
    assert ours >= students - 0.005


def test_coverage_falls_short_at_the_end_of_the_range_as_documented_but_less_than_students() -> None:
    for (seeds, mean, concentration), documented in {
        (3, 0.05, 5): (0.90, 0.73),
        (3, 0.01, 30): (0.91, 0.75),
    }.items():
        assert coverage(seeds, mean, concentration) == pytest.approx(documented, abs=0.025)
