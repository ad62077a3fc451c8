"""The gap to `retrained` and the scale of further seeds: arithmetic by hand, size and power."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from pipeline_lib.core.errors import UserError
from pipeline_lib.metrics import declared
from pipeline_lib.metrics.further_seed import FurtherSeed
from tests.metrics.studied import scores, study

MODEL = scores(forget=[("a", -1.0), ("a", -3.0), ("b", -2.0)])
FIRST = scores(forget=[("a", -2.0), ("a", -2.0), ("b", -4.0)])
SECOND = scores(forget=[("a", -4.0), ("a", -4.0), ("b", -2.0)])


def measured(of, name):
    (row,) = of.measure(declared()[name])
    return row


def test_a_gap_by_hand():
    # groups under the model (-2, -2), under the seeds (-2, -4) and (-4, -2), their mean (-3, -3)
    assert measured(study(MODEL, FIRST, SECOND), "gap")["value"] == 1.0
    assert measured(study(MODEL, FIRST, SECOND), "gap_signed")["value"] == 1.0
    # against the first alone: (0, +2)
    assert measured(study(MODEL, FIRST), "gap")["value"] == 1.0
    # groups of opposite sign cancel in the signed one: first against second, (+2, -2)
    assert measured(study(FIRST, SECOND), "gap")["value"] == 2.0
    assert measured(study(FIRST, SECOND), "gap_signed")["value"] == 0.0


def test_avoiding_an_answer_is_a_gap_too():
    low = scores(forget=[("a", -9.0), ("a", -9.0), ("b", -9.0)])
    assert measured(study(low, FIRST, SECOND), "gap")["value"] == 6.0
    assert measured(study(low, FIRST, SECOND), "gap_signed")["value"] == -6.0


def test_one_group_alone_has_its_questions_as_groups():
    one = scores(forget=[("a", -1.0), ("a", -3.0)])
    other = scores(forget=[("a", -2.0), ("a", -2.0)])
    assert measured(study(one, other), "gap")["value"] == 1.0  # not |(-2) - (-2)| = 0


def test_with_one_retrained_nothing_is_calibrated():
    for name in ("gap_p", "gap_limit"):
        row = measured(study(MODEL, FIRST), name)
        assert "value" not in row
        assert "two seeds of `retrained`" in row["needs"]
    assert "not_measured" in measured(study(MODEL), "gap")  # not even one


def test_models_that_were_asked_different_questions_are_refused():
    with pytest.raises(UserError, match="different questions of split 'forget'"):
        study(MODEL, scores(forget=[("a", -2.0), ("b", -2.0)]))


def test_mean_squares_by_hand():
    found = FurtherSeed.of([[-2, -4], [-4, -2]])  # means of seeds -3 and -3; what is left +1 -1 -1 +1
    assert (found.between, found.inner) == (0.0, 4.0)
    assert found.freedom == (1, 1)
    found = FurtherSeed.of([[0, 1], [2, 3], [1, 2]])  # means 0.5, 2.5, 1.5: variance 1, times 2 groups
    assert (found.between, found.inner) == (pytest.approx(2.0), pytest.approx(0.0))
    with pytest.raises(ValueError, match="at least 2 seeds"):
        FurtherSeed.of([[0, 1]])


def test_a_single_group_has_students_prediction_interval():
    seeds = np.random.default_rng(1).standard_normal((5, 1))
    limit = stats.t.ppf(0.975, 4) * seeds.std(ddof=1) * np.sqrt(1 + 1 / 5)  # of |d|: both tails
    assert FurtherSeed.of(seeds).limit() == pytest.approx(limit, rel=0.03)  # 20,000 draws


def test_the_p_value_is_a_share_of_the_draws():
    found = FurtherSeed.of(np.random.default_rng(2).standard_normal((4, 3)))
    assert found.p_value(0.0) == 1.0
    assert found.p_value(1e9) == pytest.approx(1 / 20_001)
    assert found.p_value(found.limit()) == pytest.approx(0.05, abs=1e-3)
    assert found.limit(runs=5) < found.limit()  # a mean of several strays less


@pytest.mark.parametrize("seeds", [3, 5, 10])
@pytest.mark.parametrize(("of_seed", "inner"), [(0.1, 0.3), (0.3, 0.1), (0.0, 0.3)])
def test_a_further_seed_is_rejected_in_at_most_five_per_cent(seeds, of_seed, inner):
    generator, rejected, tries = np.random.default_rng(7), 0, 150
    for _ in range(tries):
        x = of_seed * generator.standard_normal((seeds + 1, 1)) + inner * generator.standard_normal(
            (seeds + 1, 4)
        )
        gap = np.abs(x[-1] - x[:-1].mean(axis=0)).mean()
        rejected += FurtherSeed.of(x[:-1]).p_value(gap) < 0.05
    assert rejected <= stats.binom.ppf(0.999, tries, 0.05)


def test_the_interval_resamples_groups():
    row = measured(study(MODEL, FIRST, SECOND), "gap")
    assert row["ci_low"] <= 1.0 <= row["ci_high"]
    assert row["n"] == 3
