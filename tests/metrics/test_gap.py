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
    # means of the seeds (-3, -3, -3); differences (+2, 0, +1); groups 1 and 1
    assert measured(study(MODEL, FIRST, SECOND), "gap")["value"] == 1.0
    assert measured(study(MODEL, FIRST, SECOND), "gap_signed")["value"] == 1.0
    # against the first alone: (+1, -1, +2); groups 1 and 2, signed 0 and 2
    assert measured(study(MODEL, FIRST), "gap")["value"] == 1.5
    assert measured(study(MODEL, FIRST), "gap_signed")["value"] == 1.0


def test_known_and_avoided_answers_of_one_group_do_not_cancel():
    model = scores(forget=[("a", -1.0), ("a", -5.0), ("b", -3.0)])
    assert measured(study(model, FIRST, SECOND), "gap_signed")["value"] == 0.0
    assert measured(study(model, FIRST, SECOND), "gap")["value"] == 1.0  # groups 2 and 0


def test_avoiding_an_answer_is_a_gap_too():
    low = scores(forget=[("a", -9.0), ("a", -9.0), ("b", -9.0)])
    assert measured(study(low, FIRST, SECOND), "gap")["value"] == 6.0
    assert measured(study(low, FIRST, SECOND), "gap_signed")["value"] == -6.0


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
    # around the questions' means: (1, 1, 3), (-1, -1, -3); groups 1 and 3, seeds 2 and -2
    found = FurtherSeed.of([[-1, -2, 0], [-3, -4, -6]], "aab")
    assert (found.level, found.inner, found.single) == (8.0, 4.0, 0.0)  # 4 + 4; 4 ones; nothing around groups
    assert found.freedom == (1, 1, 1)
    found = FurtherSeed.of([[0, 2], [2, 0], [1, 1]], "aa")  # one group: seeds alike, questions +-1
    assert (found.level, found.inner, found.single) == (0.0, 0.0, 2.0)  # 4 of 2 degrees of freedom
    with pytest.raises(ValueError, match="at least 2 seeds"):
        FurtherSeed.of([[0, 1]], "ab")


def test_a_single_question_has_students_prediction_interval():
    seeds = np.random.default_rng(1).standard_normal((5, 1))
    limit = stats.t.ppf(0.975, 4) * seeds.std(ddof=1) * np.sqrt(1 + 1 / 5)  # of |d|: both tails
    assert FurtherSeed.of(seeds, "a").limit() == pytest.approx(limit, rel=0.04)  # 10,000 draws


def test_the_p_value_is_a_share_of_the_draws():
    found = FurtherSeed.of(np.random.default_rng(2).standard_normal((4, 3)), "abb")
    assert found.p_value(0.0) == 1.0
    assert found.p_value(1e9) == pytest.approx(1 / 10_001)
    assert found.p_value(found.limit()) == pytest.approx(0.05, abs=1e-3)
    assert found.limit(runs=5) < found.limit()  # a mean of several strays less


@pytest.mark.parametrize("seeds", [3, 5, 10])
@pytest.mark.parametrize(("of_seed", "inner"), [(0.1, 0.3), (0.3, 0.1), (0.0, 0.3)])
def test_a_further_seed_is_rejected_in_at_most_five_per_cent(seeds, of_seed, inner):
    generator, rejected, tries, groups = np.random.default_rng(7), 0, 100, "aaabbbcccddd"
    for _ in range(tries):
        of_groups = np.repeat(generator.standard_normal((seeds + 1, 4)), 3, axis=1)
        x = of_seed * generator.standard_normal((seeds + 1, 1)) + inner * of_groups
        x = x + 0.2 * generator.standard_normal((seeds + 1, 12))
        gap = float(np.abs(x[-1] - x[:-1].mean(axis=0)).mean())
        rejected += FurtherSeed.of(x[:-1], groups).p_value(gap) < 0.05
    assert rejected <= stats.binom.ppf(0.999, tries, 0.05)


def test_the_interval_resamples_groups():
    row = measured(study(MODEL, FIRST, SECOND), "gap")
    assert row["ci_low"] <= 1.0 <= row["ci_high"]
    assert row["n"] == 3
