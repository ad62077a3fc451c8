"""Paired tests of two models: against a plain computation, and that they see what an unpaired test misses."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from scipy import stats

from pipeline_lib.metrics.forget_quality import forget_quality
from pipeline_lib.metrics.paired_tests import equivalence_margin, permutation_d_p, wilcoxon_p


def test_the_permutation_of_few_pairs_is_that_of_all_exchanges():
    first, second = np.array([0.1, 0.4, 0.9, 1.3, 1.9]), np.array([0.0, 0.2, 0.5, 0.8, 1.1])

    def distance(a, b):
        return forget_quality(a, b).ks_statistic

    exchanges = [
        distance(np.where(swap, second, first), np.where(swap, first, second))
        for swap in product((False, True), repeat=5)
    ]
    exact = np.mean(np.array(exchanges) >= distance(first, second) - 1e-12)
    assert permutation_d_p(first, second) == pytest.approx(exact, abs=0.04)  # 2,000 draws


def test_paired_tests_see_a_small_shift_that_the_unpaired_one_misses():
    generator = np.random.default_rng(3)
    first = 2 * generator.standard_normal(40)
    second = first - 0.3 + 0.1 * generator.standard_normal(40)
    assert forget_quality(first, second).p_value > 0.2
    assert wilcoxon_p(first, second) < 1e-6
    assert permutation_d_p(first, second) < 0.05


def test_alike_models_are_not_told_apart():
    same = np.arange(6.0)
    assert wilcoxon_p(same, same) == 1.0
    assert permutation_d_p(same, same) == 1.0


def test_the_margin_is_the_far_end_of_the_interval_of_two_one_sided_tests():
    differences = np.array([0.1, 0.3, 0.2, 0.0])
    margin = equivalence_margin(differences)
    tests = [
        stats.ttest_1samp(differences, bound, alternative=side).pvalue
        for bound, side in ((-margin, "greater"), (margin, "less"))
    ]
    assert max(tests) == pytest.approx(0.05)
