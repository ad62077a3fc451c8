"""Holm's adjustment and the detectable difference: by hand, against other forms, and in simulated studies."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from pipeline_lib.reporting.paired import (
    LEVEL,
    POWER,
    about_the_test,
    detectable_difference,
    fewest_for_sign_flips,
    holm,
)


def test_holm_by_hand() -> None:
    # In order 0.005, 0.01, 0.03, 0.04: times 4, 3, 2, 1 is 0.02, 0.03, 0.06, 0.04; the last may not fall
    # below the one before.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([0.02, 0.02]) == pytest.approx([0.04, 0.04])
    assert holm([]) == [] and holm([0.03]) == [0.03]


def test_what_could_not_be_tested_still_counts() -> None:
    assert holm([None, 0.01, None]) == [None, pytest.approx(0.03), None]
    assert holm([None, 0.01, 0.02]) == [None, pytest.approx(0.03), pytest.approx(0.04)]


def step_down(p_values: list[float], level: float) -> set[int]:
    """Holm's procedure as his paper has it: reject p(1), p(2), ... up to the first above level / (m - i)."""
    rejected: set[int] = set()
    for rank, i in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        if p_values[i] >= level / (len(p_values) - rank):
            break
        rejected.add(i)
    return rejected


def test_adjusted_p_values_decide_as_the_step_down_procedure() -> None:
    generator = np.random.default_rng(0)
    for size in (1, 2, 5, 20):
        for _ in range(50):
            p_values = list(generator.beta(0.3, 2, size))
            adjusted = holm(p_values)
            assert {i for i, p in enumerate(adjusted) if p is not None and p < LEVEL} == step_down(
                p_values, LEVEL
            )


def test_the_error_rate_of_a_family_is_held() -> None:
    """2000 studies in which nothing differs: 5 seeds, 12 differences, some of them with a row in common."""
    studies, seeds = 2000, 5
    values = np.random.default_rng(1).normal(size=(studies, 7, seeds))
    differences = np.concatenate(
        [values[:, 1:] - values[:, :1], values[:, 1:] - values[:, [2, 3, 4, 5, 6, 0]]], 1
    )
    p_values = stats.ttest_1samp(differences, 0, axis=2).pvalue  # (studies, 12)
    plain = np.mean(p_values.min(axis=1) < LEVEL)
    wrong = np.mean([min(filter(None, holm(list(row)))) < LEVEL for row in p_values])
    assert plain > 0.2, "without adjustment a claim by chance would be common"
    assert wrong <= LEVEL + 3 * math.sqrt(LEVEL * (1 - LEVEL) / studies)


@pytest.mark.parametrize(("n", "comparisons"), [(2, 1), (3, 36), (5, 12), (10, 1)])
def test_the_detectable_difference_is_detected_with_the_stated_power(n: int, comparisons: int) -> None:
    spread, studies = 0.02, 20_000
    difference = detectable_difference(spread, n, comparisons)
    drawn = np.random.default_rng(n).normal(difference, spread, size=(studies, n))
    found = np.mean(stats.ttest_1samp(drawn, 0, axis=1).pvalue < LEVEL / comparisons)
    assert abs(found - POWER) < 3 * math.sqrt(POWER * (1 - POWER) / studies)


def test_the_detectable_difference_of_a_textbook() -> None:
    # Cohen's table for n = 10 pairs, two-sided 5 %: an effect of one standard deviation has a power of 0.803.
    assert detectable_difference(1.0, 10, 1) == pytest.approx(0.996, abs=2e-3)
    # Many seeds: (1.960 + 0.8416) / sqrt(n).
    assert detectable_difference(1.0, 1000, 1) == pytest.approx(2.8016 / math.sqrt(1000), rel=2e-3)
    assert detectable_difference(3.0, 5, 4) == pytest.approx(3 * detectable_difference(1.0, 5, 4))
    assert detectable_difference(1.0, 5, 4) > detectable_difference(1.0, 5, 1)


def test_sign_flips_need_so_many_seeds() -> None:
    """Against all signs of n differences of one sign, the most telling there are: k 2 / 2^n at most 0.05."""
    for comparisons in (1, 2, 3, 12, 40):
        n = fewest_for_sign_flips(comparisons)
        signs = np.array(np.meshgrid(*[(-1, 1)] * n)).reshape(n, -1)
        p = np.mean(np.abs(signs.sum(axis=0)) >= n)
        assert p * comparisons <= LEVEL < 2 * p * comparisons
    assert [fewest_for_sign_flips(k) for k in (1, 3, 12)] == [6, 7, 9]


def test_the_note_on_the_test_says_what_sign_flips_could() -> None:
    assert "have p of 0.062 or more: so they can claim nothing below 6 seeds." in about_the_test(5, 1)
    assert "0.25 or more, times 5 at Holm's first step: so they can claim nothing below 8" in about_the_test(
        3, 5
    )
    assert about_the_test(8, 5).endswith("so they could claim, too.")
