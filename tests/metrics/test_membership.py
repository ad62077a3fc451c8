"""Membership scores by hand; AUC and TPR against scikit-learn, scipy and counting."""

from __future__ import annotations

import zlib

import numpy as np
import pytest
from scipy.stats import mannwhitneyu

from pipeline_lib.metrics.membership.grad_norm import grad_norm_score
from pipeline_lib.metrics.membership.loss import loss_score
from pipeline_lib.metrics.membership.min_k import min_k_score
from pipeline_lib.metrics.membership.min_k_plus_plus import min_k_plus_plus_score
from pipeline_lib.metrics.membership.privleak import privleak
from pipeline_lib.metrics.membership.reference import reference_score
from pipeline_lib.metrics.membership.roc import auc, auc_draws, tpr_at_fpr, tpr_draws
from pipeline_lib.metrics.membership.zlib_ratio import zlib_score
from pipeline_lib.metrics.released.membership import released_auc, released_score

# log-probabilities of five tokens
TOKENS = [-1.0, -8.0, -2.0, -4.0, -0.5]


def test_a_likelier_text_has_the_higher_score_in_every_attack():
    assert loss_score(2.0, 4) == -0.5 > loss_score(8.0, 4)
    assert zlib_score(2.0, 4, "Ada") > zlib_score(8.0, 4, "Ada")
    assert reference_score(2.0, 4, 8.0, 4) == 1.5 > reference_score(8.0, 4, 8.0, 4) == 0.0
    assert grad_norm_score(0.1) > grad_norm_score(3.0)
    assert min_k_score([-1.0], 20) > min_k_score([-2.0], 20)


def test_zlib_divides_by_the_compressed_utf8_bytes():
    text = "Zürich Zürich Zürich"
    assert zlib_score(6.0, 3, text) == pytest.approx(-2 / len(zlib.compress(text.encode("utf-8"))))


@pytest.mark.parametrize(
    ("percent", "expected"), [(20, -8.0), (40, -6.0), (59, -6.0), (60, -14 / 3), (100, -3.1), (1, -8.0)]
)
def test_min_k_is_the_mean_of_the_lowest_tokens(percent, expected):
    assert min_k_score(TOKENS, percent) == pytest.approx(expected)


def test_min_k_refuses_what_makes_no_sense():
    with pytest.raises(ValueError, match="percent"):
        min_k_score(TOKENS, 0)
    with pytest.raises(ValueError, match="percent"):
        min_k_score(TOKENS, 101)
    with pytest.raises(ValueError, match="at least one token"):
        min_k_score([], 20)


def test_min_k_plus_plus_by_hand():
    # z: (-1 + 2) / 1 = 1, (-8 + 2) / 2 = -3, (-2 + 2) / 1 = 0, (-4 + 3) / 0.5 = -2, 0 / 0.001 = 0
    mean, std = [-2.0, -2.0, -2.0, -3.0, -0.5], [1.0, 2.0, 1.0, 0.5, 0.0]
    assert min_k_plus_plus_score(TOKENS, mean, std, 20) == pytest.approx(-3)
    assert min_k_plus_plus_score(TOKENS, mean, std, 40) == pytest.approx(-2.5)
    assert min_k_plus_plus_score(TOKENS, mean, std, 100) == pytest.approx(-0.8)
    with pytest.raises(ValueError, match="one mean and SD a token"):
        min_k_plus_plus_score(TOKENS, mean[:2], std, 20)


def test_auc_by_hand_with_a_tie():
    # pairs: 3>1, 3>2, 2>1, 2=2 (half): 3.5 of 4
    assert auc([3, 2], [1, 2]) == 0.875
    assert (auc([3, 4], [1, 2]), auc([1, 2], [3, 4]), auc([1, 1], [1, 1])) == (1.0, 0.0, 0.5)


@pytest.fixture(params=[0, 1, 9], ids=["many ties", "some ties", "no tie"])
def scores(request):
    rng = np.random.default_rng(0)
    return rng.normal(0.5, size=57).round(request.param), rng.normal(size=83).round(request.param)


def test_auc_equals_scipys_u_statistic(scores):
    assert auc(*scores) == pytest.approx(mannwhitneyu(*scores).statistic / (57 * 83), abs=1e-12)


def test_auc_and_tpr_equal_scikit_learn(scores):
    metrics = pytest.importorskip("sklearn.metrics")
    labels, pooled = [1] * 57 + [0] * 83, np.concatenate(scores)
    assert auc(*scores) == pytest.approx(metrics.roc_auc_score(labels, pooled), abs=1e-12)
    for rate in (0.01, 0.05, 0.3):
        fpr, tpr, _ = metrics.roc_curve(labels, pooled, drop_intermediate=False)
        assert tpr_at_fpr(*scores, rate) == pytest.approx(tpr[fpr <= rate].max())


def test_tpr_at_fpr_by_counting():
    nonmembers = np.arange(100.0)  # one of them may be a false positive at 1 %
    assert tpr_at_fpr([98.5, 99.5, 97.5, 0.0], nonmembers, 0.01) == 0.5  # above 98: only 99 is beaten
    assert tpr_at_fpr([99.0, 98.0], nonmembers, 0.01) == 0.5  # ties: 99 is allowed, 98 brings two
    assert tpr_at_fpr([99.0, 98.0], nonmembers[:99], 0.01) == 0.5  # 99 non-members: no false positive
    assert tpr_at_fpr([98.0], nonmembers[:99], 0.01) == 0.0
    assert (tpr_at_fpr([5.0], [1.0], 0.01), tpr_at_fpr([1.0], [1.0], 0.01)) == (1.0, 0.0)


def test_resamples_equal_the_metric_of_repeated_scores():
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=9).round(1), rng.normal(size=11).round(1)
    first, second = rng.integers(0, 3, (20, 9)), rng.integers(0, 3, (20, 11))
    first[:, 0], second[:, 0] = 1, 1
    for draws, one in (
        (auc_draws(first, second, a, b), auc),
        (tpr_draws(first, second, a, b, 0.2), lambda x, y: tpr_at_fpr(x, y, 0.2)),
    ):
        expected = [one(np.repeat(a, f), np.repeat(b, s)) for f, s in zip(first, second, strict=True)]
        assert draws == pytest.approx(expected)


def test_roc_refuses_empty_and_broken_scores():
    with pytest.raises(ValueError, match="at least one member"):
        auc([], [1.0])
    with pytest.raises(ValueError, match="finite"):
        auc([float("nan")], [1.0])


def test_privleak_by_hand_and_its_sign():
    # AUC 0.9 against 0.5 of `retrained`: (0.1 - 0.5) / 0.5, members still show
    assert privleak(0.9, 0.5, 100) == pytest.approx(-80)
    assert privleak(0.2, 0.5, 100) == pytest.approx(60)  # hidden too well
    assert privleak(0.6, 0.6, 100) == 0.0
    assert privleak(1.0, 0.5, 100) == -100.0
    assert privleak(0.5, 1.0, 4) == pytest.approx(400)  # held at half a pair of 4: 0.5 / 0.125
    assert privleak([0.9, 0.5], [0.5, 0.5], 100) == pytest.approx([-80, 0])


def test_released_score_counts_down_to_no_token():
    nll = [1.0, 8.0, 2.0, 4.0, 0.5]
    assert released_score(nll, 40) == pytest.approx(6)
    assert released_score(nll, 30) == pytest.approx(8)
    with pytest.raises(ValueError, match="no token among its 10 %"):
        released_score(nll, 10)


def test_released_auc_has_its_labels_in_the_wrong_order():
    # 4 forget and 2 other texts: zeros go to the first two FORGET texts, ones to everything else
    forget, others = [1.0, 2.0, 3.0, 4.0], [0.0, 5.0]
    # ones 3, 4, 0, 5 against zeros 1, 2: 3, 4 and 5 beat both, 0 none: 6 of 8
    assert released_auc(forget, others) == 0.75
    assert auc(forget, others) == 0.5
    # more others than forget texts: the last two of the others are called members
    # ones 8, 9 against zeros 1, 2, 0, 5
    assert released_auc([1.0, 2.0], [0.0, 5.0, 8.0, 9.0]) == 1.0
