"""ROUGE, BLEU, accuracy by embedding, truth probability and perplexity on numbers that fit on paper."""

from __future__ import annotations

import math

import numpy as np
import pytest
import sacrebleu
from rouge_score.rouge_scorer import RougeScorer

from pipeline_lib.metrics.answer_accuracy import most_similar
from pipeline_lib.metrics.bleu import (
    bleu_statistics,
    corpus_bleu_draws,
    released_bleu,
    sentence_bleu,
)
from pipeline_lib.metrics.perplexity import bits, nll_per_unit, perplexity, words_of
from pipeline_lib.metrics.rouge import rouge_recall, rouge_recall_and_f1
from pipeline_lib.metrics.truth_ratio import truth_probability

SAID = ["the cat sat on the mat today", "a dog", ""]
TRUE = ["the cat sat on the red mat", "a dog barks", "nothing at all"]


def test_rouge_f1_is_the_harmonic_mean_of_recall_and_precision():
    # common subsequence "ada wrote": recall 2 of 4, precision 2 of 2, F1 = 2 * 0.5 * 1 / 1.5
    assert rouge_recall_and_f1("Ada wrote", "Ada Lovelace wrote it") == (0.5, pytest.approx(2 / 3))
    # words in any order: 3 common of 4 and of 3
    assert rouge_recall_and_f1("Wrote Ada it", "Ada Lovelace wrote it", "rouge1") == (
        0.75,
        pytest.approx(6 / 7),
    )


def test_rouge_at_both_ends():
    for kind in ("rouge1", "rougeL"):
        assert rouge_recall_and_f1("the same words", "the same words", kind) == (1.0, 1.0)
        assert rouge_recall_and_f1("nothing common", "other text", kind) == (0.0, 0.0)
        assert rouge_recall_and_f1("", "other text", kind) == (0.0, 0.0)
    assert rouge_recall("the same words", "the same words", "rouge1") == 1.0


def test_rouge_equals_the_package_with_its_own_stemmer():
    theirs = RougeScorer(["rouge1", "rougeL"], use_stemmer=True)
    said = "The WRITERS' 2nd-best story was re-written, naïvely; it's studies, flying, was and wass."
    true = "A writer's second best stories were rewritten naively: its study flies, as it was."
    expected = theirs.score(true, said)
    for kind in ("rouge1", "rougeL"):
        assert rouge_recall_and_f1(said, true, kind) == (expected[kind].recall, expected[kind].fmeasure)
        assert 0 < rouge_recall(said, true, kind) < 1


def test_more_words_lower_f1_but_not_recall():
    assert rouge_recall_and_f1("a b c d e f", "a b") == (1.0, pytest.approx(0.5))


def test_sentence_bleu_by_hand():
    # "a b c d" in "a b c e": precisions 3/4, 2/3, 1/2, and no 4-gram of 1: smoothed to 1 / (2 * 1)
    expected = 100 * (3 / 4 * 2 / 3 * 1 / 2 * 1 / 2) ** (1 / 4)
    assert sentence_bleu("a b c d", "a b c e") == pytest.approx(expected)
    # two words, both right, of three: effective order 2, brevity penalty exp(1 - 3/2)
    assert sentence_bleu("a dog", "a dog barks") == pytest.approx(100 * math.exp(-0.5))


def corpus_bleu(generations, references):
    """BLEU of all answers together: the one "resample" that holds each of them once."""
    return corpus_bleu_draws(np.ones((1, len(generations))), bleu_statistics(generations, references))[0]


def test_bleu_at_both_ends():
    assert sentence_bleu("the cat sat on the mat", "the cat sat on the mat") == pytest.approx(100)
    assert sentence_bleu("", "the cat") == 0.0
    assert corpus_bleu(["x"], ["the cat sat on"]) == 0.0
    assert corpus_bleu(TRUE, TRUE) == pytest.approx(100)


def test_released_bleu_of_a_short_answer_is_zero_even_if_it_is_right():
    assert released_bleu("a dog barks", "a dog barks") == 0.0
    assert sentence_bleu("a dog barks", "a dog barks") == pytest.approx(100)
    assert released_bleu(SAID[0], TRUE[0]) == sacrebleu.corpus_bleu([SAID[0]], [[TRUE[0]]]).score


def test_corpus_bleu_of_resamples_equals_sacrebleu_on_the_repeated_answers():
    statistics = bleu_statistics(SAID, TRUE)
    counts = np.array([[1, 1, 1], [2, 0, 1], [0, 0, 3], [1, 3, 0]])
    expected = [
        sacrebleu.corpus_bleu(
            [s for s, c in zip(SAID, row, strict=True) for _ in range(c)],
            [[t for t, c in zip(TRUE, row, strict=True) for _ in range(c)]],
        ).score
        for row in counts
    ]
    assert corpus_bleu_draws(counts, statistics) == pytest.approx(expected)
    assert corpus_bleu(SAID, TRUE) == pytest.approx(expected[0])


def test_answer_accuracy_a_tie_is_wrong():
    assert most_similar([0.9, 0.8, 0.1]) == 1.0
    assert most_similar([0.7, 0.8, 0.1]) == 0.0
    assert most_similar([0.8, 0.8]) == 0.0
    with pytest.raises(ValueError, match="wrong one"):
        most_similar([0.9])


def test_truth_probability_is_the_share_of_the_true_answer():
    # P(true) 0.3, P(wrong) 0.1: R = 3, share 0.75
    assert truth_probability(math.log(3)) == pytest.approx(0.75)
    assert truth_probability(-math.log(3)) == pytest.approx(0.25)
    assert (truth_probability(0.0), truth_probability(1e6), truth_probability(-1e6)) == (0.5, 1.0, 0.0)


def test_perplexity_is_of_the_corpus_and_not_a_mean_of_texts():
    # 2 ln 2 + 6 ln 2 nats over 4 tokens: 2 ln 2 a token, so 4; the mean of the texts' own would be 2 and 8: 5
    nll, tokens = [2 * math.log(2), 6 * math.log(2)], [2, 2]
    assert perplexity(nll_per_unit(nll, tokens)) == pytest.approx(4)
    assert bits(nll_per_unit(nll, tokens)) == pytest.approx(2)
    counts = np.array([[1, 1], [2, 0], [0, 5]])
    assert perplexity(nll_per_unit(nll, tokens, counts)) == pytest.approx([4, 2, 8])


def test_perplexity_at_both_ends():
    assert perplexity(nll_per_unit([0.0], [3])) == 1.0
    assert bits(nll_per_unit([0.0], [3])) == 0.0
    assert math.isfinite(perplexity(nll_per_unit([1e9], [1])))
    with pytest.raises(ValueError, match="at least one unit"):
        nll_per_unit([], [])


def test_words_are_pieces_between_spaces():
    assert [words_of(text) for text in ("two  words\n", "one", "")] == [2, 1, 1]
