"""Intervals: deterministic, over groups, and wide enough."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import ks_2samp

from pipeline_lib.evaluation.statistics import (
    group_bootstrap,
    interval,
    ks_log_p,
    ks_statistics,
    resample_counts,
    split_seed,
    weighted_mean,
)


def coverage(groups: int, rows: int, correlation: float, studies: int = 200) -> float:
    """Share of simulated studies whose interval holds the true mean, 0."""
    rng = np.random.default_rng(1)
    names = np.repeat(np.arange(groups), rows).tolist()
    hits = 0
    for study in range(studies):
        shared = rng.normal(0, correlation**0.5, groups).repeat(rows)
        own = rng.normal(0, (1 - correlation) ** 0.5, groups * rows)
        result = group_bootstrap(shared + own, names, seed=study, resamples=200)
        hits += result.low <= 0 <= result.high
    return hits / studies


@pytest.mark.parametrize(
    ("groups", "rows", "correlation"),
    [(40, 10, 0.3), (100, 1, 0.0), (20, 20, 0.1), (4, 10, 0.1), (2, 20, 0.0), (1, 60, 0.0)],
)
def test_coverage_is_near_95_percent(groups, rows, correlation):
    assert 0.88 <= coverage(groups, rows, correlation) <= 1.0


def test_rows_drawn_alone_would_be_far_too_sure():
    """Correlated rows: the interval over groups is several times wider than one over rows."""
    rng = np.random.default_rng(0)
    values = rng.normal(size=30).repeat(20)
    by_group = group_bootstrap(values, np.repeat(np.arange(30), 20).tolist())
    by_row = group_bootstrap(values, list(range(600)))
    assert by_group.high - by_group.low > 3 * (by_row.high - by_row.low)


def test_many_groups_are_drawn_whole():
    groups = [i // 3 for i in range(75)]
    counts = resample_counts(groups, seed=0).reshape(1000, 25, 3)
    assert (counts == counts[:, :, :1]).all()
    assert (counts[:, :, 0].sum(axis=1) == 25).all()


def test_few_groups_are_drawn_and_then_their_rows():
    counts = resample_counts(["a", "b", "a", "b"], seed=0)
    assert (counts.sum(axis=1) == 4).all()
    in_a = counts[:, [0, 2]].sum(axis=1)
    assert sorted(set(in_a)) == [0, 2, 4]  # group a is drawn 0, 1 or 2 times, two rows each time
    assert len({tuple(row) for row in counts}) > 10  # not just three resamples


def test_one_group_resamples_its_rows():
    result = group_bootstrap([0.0, 1.0] * 20, ["only"] * 40)
    assert result.low < 0.45 < 0.55 < result.high


def test_groups_of_unequal_size_weigh_by_their_rows():
    result = group_bootstrap([1.0, 1.0, 1.0, 0.0], ["a", "a", "a", "b"])
    assert result.value == 0.75


def test_same_seed_same_interval_and_splits_differ():
    values, groups = np.random.default_rng(0).random(60), [i // 2 for i in range(60)]
    assert group_bootstrap(values, groups, seed=3) == group_bootstrap(values, groups, seed=3)
    assert group_bootstrap(values, groups, seed=3) != group_bootstrap(values, groups, seed=4)
    assert split_seed("forget") == split_seed("forget") != split_seed("retain")


def test_constant_values_have_no_width():
    assert group_bootstrap([0.3] * 4, ["a", "b", "c", "d"]).low == pytest.approx(0.3)


def test_interval_always_holds_its_value():
    result = interval(0.1, np.linspace(0.2, 0.3, 1000), n=5)
    assert result.low == 0.1
    assert result.high == pytest.approx(0.2975)


def test_empty_and_mismatched_input_is_refused():
    with pytest.raises(ValueError, match="empty"):
        resample_counts([], seed=0)
    with pytest.raises(ValueError, match="one value a row"):
        group_bootstrap([1.0, 2.0], ["a"])


def test_ks_of_every_resample_equals_scipy_on_the_resampled_rows():
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=40).round(1), rng.normal(0.5, size=40).round(1)  # rounded: with ties
    counts = resample_counts([i // 10 for i in range(40)], seed=0, resamples=30)
    statistics = ks_statistics(counts, first, second)
    log_p = ks_log_p(counts, statistics)
    for row, statistic, log_value in zip(counts.astype(int), statistics, log_p, strict=True):
        expected = ks_2samp(first.repeat(row), second.repeat(row))
        assert statistic == pytest.approx(expected.statistic)
        assert np.exp(log_value) == pytest.approx(expected.pvalue, rel=1e-8)


def test_weighted_mean_by_hand():
    assert weighted_mean(np.array([[2.0, 1.0, 0.0]]), np.array([3.0, 6.0, 100.0])).tolist() == [4.0]
