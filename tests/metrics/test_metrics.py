"""Every metric on numbers that can be checked on paper."""

from __future__ import annotations

import math
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.stats import ks_2samp

from pipeline_lib.metrics import declared
from pipeline_lib.metrics.exact_memorization import exact_memorization
from pipeline_lib.metrics.extraction_strength import extraction_strength
from pipeline_lib.metrics.forget_quality import forget_quality, ks_intervals
from pipeline_lib.metrics.model_utility import harmonic_mean
from pipeline_lib.metrics.multiple_choice import chooses_answer
from pipeline_lib.metrics.probability import normalised_probability, probability
from pipeline_lib.metrics.rouge import rouge_recall
from pipeline_lib.metrics.statistics import log_p_equal_n
from pipeline_lib.metrics.truth_ratio import forget_score, log_truth_ratio, truth_score

LN2 = math.log(2)


def test_probability_is_the_geometric_mean_of_token_probabilities():
    assert probability(-math.log(0.5 * 0.25 * 0.125), 3) == pytest.approx(0.25)
    assert (probability(0.0, 3), probability(1e6, 3)) == (1.0, 0.0)


def test_normalised_probability_is_the_share_among_the_options():
    # per token: true 1/2, wrong 1/4 (two tokens) and 1/4: 0.5 / (0.5 + 0.25 + 0.25)
    assert normalised_probability(LN2, 1, [4 * LN2, 2 * LN2], [2, 1]) == pytest.approx(0.5)


def test_normalised_probability_survives_underflow():
    assert normalised_probability(5000.0, 1, [5000.0], [1]) == 0.5
    assert normalised_probability(5000.0, 1, [1.0], [1]) == 0.0
    assert normalised_probability(1.0, 1, [5000.0], [1]) == 1.0


def test_rouge_l_recall_follows_the_order_of_words_and_rouge_1_does_not():
    # "ada wrote": the longest common subsequence of 2 of the reference's 4 words; 3 words are common
    assert rouge_recall("Wrote Ada it", "Ada Lovelace wrote it") == 0.5
    assert rouge_recall("Wrote Ada it", "Ada Lovelace wrote it", "rouge1") == 0.75


def test_rouge_stems_words_and_ignores_case_and_extra_words():
    assert rouge_recall("she was WRITING many books indeed", "writes book") == 1.0
    assert rouge_recall("", "a book") == 0.0


def test_truth_ratio_geometric_and_arithmetic():
    # P(paraphrase) = 1/2; P(wrong) = 1/4 and 1/16: geometric mean 1/8, arithmetic mean 5/32
    arguments = (3 * LN2, 3, [2 * LN2, 8 * LN2], [1, 2])
    assert math.exp(log_truth_ratio(*arguments)) == pytest.approx(4)
    assert math.exp(log_truth_ratio(*arguments, "arithmetic")) == pytest.approx(0.5 / (5 / 32))


def test_truth_ratio_of_huge_losses_is_finite_and_its_scores_are_bounds():
    arguments = (9e5, 1, [1e6, 1e6 + 1], [1, 1])
    assert log_truth_ratio(*arguments) == pytest.approx(1e5 + 0.5)
    assert log_truth_ratio(*arguments, "arithmetic") == pytest.approx(1e5 - math.log((1 + math.exp(-1)) / 2))
    assert truth_score(1e5) == 1.0
    assert forget_score(1e5) == 0.0
    assert truth_score(-1e5) == 0.0


def test_truth_ratio_without_wrong_answers_is_refused():
    with pytest.raises(ValueError, match="wrong answer"):
        log_truth_ratio(1.0, 1, [], [])


def test_truth_ratio_aggregates():
    assert forget_score(math.log(4)) == pytest.approx(0.25)
    assert forget_score(-math.log(4)) == pytest.approx(0.25)
    assert truth_score(math.log(4)) == pytest.approx(0.75)
    assert truth_score(-math.log(4)) == 0.0


@pytest.mark.parametrize(
    ("correct", "expected"),
    [
        ([1, 1, 1, 1], 1.0),
        ([0, 1, 1, 1], 0.75),
        ([1, 1, 0, 1], 0.25),
        ([1, 1, 1, 0], 0.0),
        ([0, 0, 0], 0.0),
        ([1], 1.0),
    ],
)
def test_extraction_strength_counts_the_correct_ending(correct, expected):
    assert extraction_strength(correct) == expected


def test_exact_memorization_counts_right_tokens_anywhere():
    assert exact_memorization([1, 0, 1, 1]) == 0.75
    assert (exact_memorization([0, 0, 0]), exact_memorization([1])) == (0.0, 1.0)


def test_multiple_choice_is_length_normalised_and_a_tie_is_wrong():
    assert chooses_answer(4.0, 4, [2.0], [1]) == 1.0  # 1 nat a token beats 2, although its sum is larger
    assert chooses_answer(2.0, 1, [4.0], [4]) == 0.0
    assert chooses_answer(2.0, 1, [4.0], [2]) == 0.0


def test_forget_quality_by_hand():
    # all of one sample below the other: D = 1, p = 2 / C(4, 2) = 1/3
    result = forget_quality([1.0, 2.0], [3.0, 4.0])
    assert result.ks_statistic == 1.0
    assert result.p_value == pytest.approx(1 / 3)
    assert result.log10_p_value == pytest.approx(math.log10(1 / 3))
    assert (result.n_unlearned, result.n_retrained) == (2, 2)


def test_forget_quality_of_equal_samples_is_one():
    result = forget_quality([1.0, 2.0, 3.0], [1.0, 2.0, 3.0])
    assert (result.p_value, result.log10_p_value, result.ks_statistic) == (1.0, 0.0, 0.0)


def test_log_p_equals_scipy_wherever_scipy_does_not_underflow():
    rng = np.random.default_rng(0)
    for n, shift in ((5, 1.0), (40, 0.0), (40, 0.5), (400, 0.1), (400, 2.0)):
        result = ks_2samp(rng.normal(size=n), rng.normal(shift, size=n))
        ours = math.exp(log_p_equal_n(round(result.statistic * n), n))
        assert ours == pytest.approx(result.pvalue, rel=1e-9)


def test_log10_p_goes_on_below_the_smallest_float():
    apart = forget_quality(np.arange(600.0), np.arange(600.0) + 1000)
    # 2 / C(1200, 600), by Stirling about 1.2e-359
    exact = (math.log(2) - math.lgamma(1201) + 2 * math.lgamma(601)) / math.log(10)
    assert apart.p_value == 0.0
    assert apart.log10_p_value == pytest.approx(exact, rel=1e-12)
    unequal = forget_quality(np.arange(700.0), np.arange(600.0) + 1000)
    assert unequal.p_value == 0  # 2 exp(-2 D^2 n m / (n + m)) with D = 1
    assert unequal.log10_p_value == pytest.approx((math.log(2) - 2 * 700 * 600 / 1300) / math.log(10))


def test_an_interval_holds_a_distance_below_that_of_every_resample():
    """One question after the other, D = 1 / n; drawn with repetition, neighbours part."""
    n, rng = 30, np.random.default_rng(0)
    counts = np.stack([np.bincount(rng.integers(n, size=n), minlength=n) for _ in range(50)]).astype(float)
    pair = SimpleNamespace(split=SimpleNamespace(counts=counts), reference=[None] * n)
    tested = ks_intervals(pair, np.arange(n) + 0.5, np.arange(float(n)))
    assert tested.distance.value == pytest.approx(1 / n) and tested.distance.low == tested.distance.value
    assert tested.p.high == tested.p.value == pytest.approx(1.0)
    assert tested.p.low == pytest.approx(10**tested.log10_p.low, rel=0.05)
    assert tested.log10_p.high == tested.log10_p.value > tested.log10_p.low


def test_forget_quality_refuses_ratios_that_are_not_finite():
    with pytest.raises(ValueError, match="finite"):
        forget_quality([1.0, math.inf], [1.0, 2.0])


def test_harmonic_mean_by_hand_and_zero_where_a_part_is_zero():
    assert harmonic_mean([1.0, 0.5, 0.25]) == pytest.approx(3 / (1 + 2 + 4))
    assert harmonic_mean([[1.0, 0.0], [0.5, 0.5]]).tolist() == [0.0, 0.5]
    with pytest.raises(ValueError, match="negative"):
        harmonic_mean([0.5, -0.1])


def test_direction_turns_round_on_the_forget_split():
    probability, ratio = declared()["probability"], declared()["truth_ratio"]
    assert (probability.direction("retain"), probability.direction("forget")) == (True, False)
    assert (ratio.direction("retain"), ratio.direction("forget")) == (True, True)
    assert probability.direction("unseen_300") is False
    assert declared()["model_utility"].direction("utility") is True


def test_scoring_records_and_metrics_need_no_torch():
    code = (
        "import pipeline_lib.metrics.scores, pipeline_lib.metrics.statistics, sys; "
        "sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
