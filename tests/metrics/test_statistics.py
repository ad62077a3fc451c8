"""Intervals: deterministic, over groups, and wide enough."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest
from scipy.stats import ks_2samp, t

from pipeline_lib.metrics.forget_quality import forget_quality
from pipeline_lib.metrics.statistics import (
    RESAMPLES,
    interval,
    ks_equal_n,
    ks_log_p,
    ks_statistics,
    resample_counts,
    split_seed,
    weighted_mean,
)


def group_bootstrap(values, groups, seed=0, resamples=RESAMPLES):
    """The interval of the mean over rows, resampled by group."""
    values = np.asarray(values)
    draws = weighted_mean(resample_counts(groups, seed, resamples), values)
    return interval(values.mean(), draws, len(values))


def coverage(groups: int, rows: int, correlation: float, studies: int, resamples: int) -> float:
    """Share of simulated studies whose interval holds the true mean, 0."""
    rng = np.random.default_rng(1)
    names = np.repeat(np.arange(groups), rows).tolist()
    hits = 0
    for study in range(studies):
        shared = rng.normal(0, correlation**0.5, groups).repeat(rows)
        own = rng.normal(0, (1 - correlation) ** 0.5, groups * rows)
        result = group_bootstrap(shared + own, names, seed=study, resamples=resamples)
        hits += result.low <= 0 <= result.high
    return hits / studies


def within_three_errors(found: float, expected: float, studies: int) -> bool:
    """Is the share within three binomial standard errors of what is expected?"""
    return abs(found - expected) <= 3 * math.sqrt(expected * (1 - expected) / studies)


@pytest.mark.parametrize(("groups", "rows", "correlation"), [(20, 5, 0.3), (40, 5, 0.3), (100, 1, 0.0)])
def test_many_groups_cover_as_the_theory_says_near_95_percent(groups, rows, correlation):
    expected = 1 - 2 * t.sf(1.96 * math.sqrt((groups - 1) / groups), groups - 1)
    assert 0.925 < expected < 0.95
    assert within_three_errors(coverage(groups, rows, correlation, 400, 400), expected, 400)


@pytest.mark.parametrize(
    ("groups", "correlation", "documented"),
    [(2, 0.1, 0.84), (4, 0.1, 0.94), (10, 0.1, 0.95), (2, 0.6, 0.64), (4, 0.6, 0.86)],
)
def test_few_groups_cover_as_documented(groups, correlation, documented):
    assert within_three_errors(coverage(groups, 20, correlation, 200, 200), documented, 200)


def test_rows_drawn_alone_would_be_far_too_sure():
    """Correlated rows: the interval over groups is several times wider than one over rows."""
    values = np.random.default_rng(0).normal(size=30).repeat(20)
    by_group = group_bootstrap(values, np.repeat(np.arange(30), 20).tolist())
    by_row = group_bootstrap(values, list(range(600)))
    assert by_group.high - by_group.low > 3 * (by_row.high - by_row.low)


def test_many_groups_are_drawn_whole():
    counts = resample_counts([i // 3 for i in range(75)], seed=0).reshape(1000, 25, 3)
    assert (counts == counts[:, :, :1]).all()
    assert (counts[:, :, 0].sum(axis=1) == 25).all()


def test_few_groups_are_drawn_and_then_their_rows():
    counts = resample_counts(["a", "b", "a", "b"], seed=0)
    assert (counts.sum(axis=1) == 4).all()
    in_a = counts[:, [0, 2]].sum(axis=1)
    assert sorted(set(in_a)) == [0, 2, 4]  # group a is drawn 0, 1 or 2 times, two rows each time
    assert len({tuple(row) for row in counts}) > 10  # not just three resamples


@pytest.mark.parametrize(
    ("values", "groups"),
    [
        ([0.3], ["a"]),  # one record
        ([0.0, 1.0] * 20, ["only"] * 40),  # one group
        ([0.3] * 4, ["a", "b", "c", "d"]),  # one value
        ([0.0] * 40, [i // 2 for i in range(40)]),  # no refusal in forty answers
        ([0.1 + 0.2, 0.3] * 20, list(range(40))),  # the same but for rounding
    ],
)
def test_where_nothing_varies_there_is_no_interval(values, groups):
    found = group_bootstrap(values, groups)
    assert (found.low, found.high, found.n) == (None, None, len(values))
    assert found.value == pytest.approx(np.mean(values))


@pytest.mark.parametrize(("groups", "whole"), [(19, False), (20, True), (21, True)])
def test_the_scheme_changes_at_exactly_twenty_groups(groups, whole):
    """From 20 groups on they are drawn whole: the two rows of a group always come equally often."""
    counts = resample_counts([i // 2 for i in range(2 * groups)], seed=0).reshape(1000, groups, 2)
    assert bool((counts[:, :, 0] == counts[:, :, 1]).all()) is whole
    assert (counts.sum(axis=(1, 2)) == 2 * groups).all()


def test_groups_of_unequal_size_weigh_by_their_rows():
    assert group_bootstrap([1.0, 1.0, 1.0, 0.0], ["a", "a", "a", "b"]).value == 0.75


def test_same_seed_same_interval_and_splits_differ():
    values, groups = np.random.default_rng(0).random(60), [i // 2 for i in range(60)]
    assert group_bootstrap(values, groups, seed=3) == group_bootstrap(values, groups, seed=3)
    assert group_bootstrap(values, groups, seed=3) != group_bootstrap(values, groups, seed=4)
    assert split_seed("forget") == split_seed("forget") != split_seed("retain")


def test_the_interval_of_a_statistic_that_resampling_shifts_reaches_to_its_value():
    result = interval(0.1, np.linspace(0.2, 0.3, 1000), n=5, shifts=True)
    assert result.low == 0.1
    assert result.high == pytest.approx(0.2975)


def test_a_mean_outside_all_of_its_resamples_is_a_fault():
    with pytest.raises(ValueError, match="lies outside all of its resamples"):
        interval(0.1, np.linspace(0.2, 0.3, 1000), n=5)
    assert interval(0.2, np.linspace(0.2, 0.3, 1000), n=5).low == 0.2  # in the outer 2.5 %: moved to it


def test_rows_without_a_value_do_not_count():
    counts = np.array([[1.0, 1.0, 1.0], [3.0, 0.0, 0.0], [0.0, 3.0, 0.0], [0.0, 1.0, 2.0]])
    values = np.array([np.nan, 1.0, 4.0])
    assert weighted_mean(counts, values).tolist()[0] == 2.5
    assert np.isnan(weighted_mean(counts, values)[1])  # no row with a value was drawn
    assert interval(2.5, weighted_mean(counts, values), 2).high == pytest.approx(2.95, abs=0.05)


def test_empty_input_is_refused():
    with pytest.raises(ValueError, match="empty"):
        resample_counts([], seed=0)


def test_ks_of_every_resample_equals_scipy_on_the_resampled_rows():
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=40).round(1), rng.normal(0.5, size=40).round(1)  # rounded: with ties
    counts = resample_counts([i // 10 for i in range(40)], seed=0, resamples=30)
    statistics = ks_statistics(counts, counts, first, second)
    log_p = ks_log_p(counts, statistics)
    for row, statistic, log_value in zip(counts.astype(int), statistics, log_p, strict=True):
        expected = ks_2samp(first.repeat(row), second.repeat(row))
        assert statistic == pytest.approx(expected.statistic)
        assert np.exp(log_value) == pytest.approx(expected.pvalue, rel=1e-8)


def test_weighted_mean_by_hand():
    assert weighted_mean(np.array([[2.0, 1.0, 0.0]]), np.array([3.0, 6.0, 100.0])).tolist() == [4.0]


def two_models(rows: int, seed: int = 0, shift: float = 0.5) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=rows), rng.normal(shift, size=rows)


@pytest.mark.parametrize("paired", [True, False])
def test_equal_n_of_all_rows_is_the_test_itself(paired):
    first, second = two_models(30)
    groups = [i // 5 for i in range(30)]
    found = ks_equal_n(first, second, 30, groups, None if paired else groups, subsamples=20)
    whole = forget_quality(first, second)
    assert found.p_value == pytest.approx(whole.p_value, rel=1e-9)
    assert found.log10_p_value == pytest.approx(whole.log10_p_value, rel=1e-9)
    assert found.ks_statistic == pytest.approx(whole.ks_statistic, rel=1e-9)
    assert found.rejected == (whole.p_value < 0.05)
    assert (found.n, found.n_first, found.n_second, found.subsamples) == (30, 30, 30, 20)


def test_equal_n_is_the_mean_over_every_choice_of_groups():
    """Six groups of two rows at n = 6: twenty choices of three whole groups, each by scipy."""
    first, second = two_models(12, shift=1.0)
    groups = [i // 2 for i in range(12)]
    tests = []
    for chosen in combinations(range(6), 3):
        rows = [i for i in range(12) if groups[i] in chosen]
        tests.append(ks_2samp(first[rows], second[rows]))
    found = ks_equal_n(first, second, 6, groups, subsamples=4000)
    for values, mean in (
        ([test.pvalue for test in tests], found.p_value),
        ([math.log10(test.pvalue) for test in tests], found.log10_p_value),
        ([test.statistic for test in tests], found.ks_statistic),
    ):
        error = np.std(values) / math.sqrt(4000)
        assert abs(mean - np.mean(values)) < 4 * error


def test_rows_of_different_questions_are_drawn_apart():
    """n = 1 of two rows: drawn together each row meets itself and D is 0, drawn apart D is 1 at times."""
    rows = [0.0, 1.0]
    assert ks_equal_n(rows, rows, 1, [0, 1], subsamples=400).ks_statistic == 0
    apart = ks_equal_n(rows, rows, 1, [0, 1], [0, 1], subsamples=400)
    assert within_three_errors(apart.ks_statistic, 0.5, 400)


def test_forget_sets_of_different_size_agree_at_equal_n():
    """One population: the whole tests lie twenty orders of magnitude apart, at equal n about one."""
    large, small = two_models(400, seed=1, shift=0.8), two_models(60, seed=2, shift=0.8)
    apart = forget_quality(*small).log10_p_value - forget_quality(*large).log10_p_value
    assert apart > 15
    at_n = [ks_equal_n(*pair, 40, list(range(len(pair[0]))), subsamples=300) for pair in (large, small)]
    assert abs(at_n[0].log10_p_value - at_n[1].log10_p_value) < 0.1 * apart
    assert [found.n_first for found in at_n] == [400, 60]


def test_equal_n_refuses_more_rows_than_there_are():
    first, second = two_models(10)
    with pytest.raises(ValueError, match="n must be from 1 to 10, the rows of the smaller sample, got 11"):
        ks_equal_n(first, second, 11, list(range(10)))
    with pytest.raises(ValueError, match="from 1 to 4"):
        ks_equal_n(first, second[:4], 0, list(range(10)), list(range(4)))
    with pytest.raises(ValueError, match="one group a row"):
        ks_equal_n(first, second[:4], 4, list(range(10)))
