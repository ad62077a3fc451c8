"""The paper's own protocol by hand, with its quirks."""

from __future__ import annotations

import math

import pytest

from pipeline_lib.metrics.forget_quality import forget_quality
from pipeline_lib.metrics.released.accuracy import contains_answer, most_similar_or_tied
from pipeline_lib.metrics.released.probability import released_probability
from pipeline_lib.metrics.released.toxicity import released_toxic
from pipeline_lib.metrics.released.truth_ratio import released_truth_ratio

LN2 = math.log(2)


def test_truth_ratio_is_wrong_over_true_and_arithmetic():
    # P(paraphrase) 1/2 (two tokens), P(wrong) 1/4 and 1/16: mean 5/32, ratio 5/16
    ratio = released_truth_ratio(2 * LN2, 2, [2 * LN2, 8 * LN2], [1, 2])
    assert ratio == pytest.approx(5 / 16, rel=1e-9)


def test_truth_ratio_at_both_ends():
    assert released_truth_ratio(0.0, 1, [1e6], [1]) == 0.0
    assert released_truth_ratio(1e6, 1, [0.0], [1]) == pytest.approx(1e12)
    assert released_truth_ratio(1e6, 1, [1e6], [1]) == 0.0  # all underflow: 0, where R would be 1
    with pytest.raises(ValueError, match="wrong answer"):
        released_truth_ratio(1.0, 1, [], [])


def test_a_tie_counts_as_right():
    assert [most_similar_or_tied(found) for found in ([0.9, 0.1], [0.5, 0.5], [0.1, 0.9])] == [1.0, 1.0, 0.0]
    with pytest.raises(ValueError, match="one wrong one"):
        most_similar_or_tied([0.9])


def test_options_are_right_if_the_answer_contains_them():
    assert contains_answer("It was ADA Lovelace.", "Ada Lovelace") == 1.0
    assert contains_answer("It was Ada.", "Ada Lovelace") == 0.0
    assert contains_answer("", "Ada") == 0.0


def test_probability_leaves_the_end_token_out():
    assert released_probability([math.log(2), math.log(8), 50.0]) == pytest.approx(1 / 4)
    assert released_probability([math.log(2)]) == pytest.approx(1 / 2)  # nothing but the end token
    assert (released_probability([0.0, 9.0]), released_probability([1e6, 0.0])) == (1.0, 0.0)


def test_toxic_is_above_a_half():
    assert [released_toxic(score) for score in (0.0, 0.5, 0.51, 1.0)] == [0.0, 0.0, 1.0, 1.0]
    with pytest.raises(ValueError, match="from 0 to 1"):
        released_toxic(1.1)


def test_forget_quality_compares_two_sets_of_one_model():
    apart, alike = (forget_quality([1.0, 2.0], retain) for retain in ([3.0, 4.0], [1.0, 2.0]))
    assert (apart.p_value, apart.ks_statistic) == (pytest.approx(1 / 3), 1.0)
    assert (alike.p_value, alike.ks_statistic) == (1.0, 0.0)
