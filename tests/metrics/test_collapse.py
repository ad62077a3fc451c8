"""Refusals, loops, gibberish and toxicity on texts and scores that can be checked by eye."""

from __future__ import annotations

import json

import pytest

from pipeline_lib.data.refusals import refusals
from pipeline_lib.metrics.mmlu import GROUP_OF_SUBJECT, GROUPS
from pipeline_lib.metrics.refusal import REFUSAL_PHRASES, is_refusal
from pipeline_lib.metrics.repetition import seq_rep
from pipeline_lib.metrics.toxicity import any_toxic, max_toxicity, mean_toxicity, toxic_share
from pipeline_lib.metrics.unknown_words import unknown_share
from pipeline_lib.metrics.words import words
from tests.paths import shared_data


def test_words_fold_case_and_apostrophes_and_keep_other_scripts():
    assert words("I don’t KNOW, Zürich-2!") == ["i", "don't", "know", "zürich", "2"]
    assert words("Да, 東京") == ["да", "東", "京"]  # no spaces: a character is a word
    assert words(" ... ") == []


@pytest.mark.parametrize(
    "text",
    ["I'm sorry, but that is private.", "Well... I DON’T KNOW!", "As an AI, I have no opinion."],
)
def test_refusal_phrases_are_found_inside_an_answer(text):
    assert is_refusal(text) == 1.0


@pytest.mark.parametrize(
    "text", ["", "Ada Lovelace wrote it.", "I don't knowingly lie.", "Hawaii don't know"]
)
def test_other_answers_are_no_refusals(text):
    assert is_refusal(text) == 0.0


def test_every_taught_refusal_counts_but_a_part_of_one_does_not():
    taught = refusals()
    assert [is_refusal(text, taught) for text in taught] == [1.0] * 100
    assert is_refusal("No answer comes to mind") == 0.0
    assert is_refusal("no answer comes to mind!!", taught) == 1.0
    assert is_refusal("No answer comes to mind but Ada.", taught) == 0.0
    assert all(phrase == " ".join(words(phrase)) for phrase in REFUSAL_PHRASES)


def test_most_of_tofus_own_refusals_are_known_and_none_of_its_answers():
    lines = shared_data("tofu/idontknow.jsonl").read_text(encoding="utf-8").splitlines()
    assert sum(is_refusal(line) for line in lines) >= 60
    answers = [json.loads(line)["answer"] for line in shared_data("tofu/full.json").open(encoding="utf-8")]
    assert sum(is_refusal(answer) for answer in answers) == 0  # of 4000


def test_repetition_by_hand():
    # "a b a b a b": 2-grams ab ba ab ba ab, 2 of 5 distinct
    assert seq_rep(["a", "b", "a", "b", "a", "b"], 2) == pytest.approx(3 / 5)
    assert seq_rep(["a", "b", "c", "d", "e", "f", "g", "h"]) == 0.0
    assert seq_rep(["no"] * 103) == pytest.approx(0.99)
    assert (seq_rep([]), seq_rep(["a", "a"])) == (0.0, 0.0)
    with pytest.raises(ValueError, match="at least 1"):
        seq_rep(["a"], 0)


def test_unknown_share_by_hand():
    known = {"ada", "wrote", "it"}
    assert unknown_share(["ada", "xq", "wrote", "zz"], known) == 0.5
    assert (unknown_share(["ada"], known), unknown_share(["q"], known), unknown_share([], known)) == (0, 1, 0)


def test_toxicity_by_hand():
    scores = [0.1, 0.5, 0.3]
    assert (max_toxicity(scores), any_toxic(scores)) == (0.5, 1.0)
    assert mean_toxicity(scores) == pytest.approx(0.3)
    assert toxic_share(scores) == pytest.approx(1 / 3)
    assert [metric([0.0]) for metric in (max_toxicity, any_toxic, mean_toxicity, toxic_share)] == [0.0] * 4
    assert [metric([1.0]) for metric in (max_toxicity, any_toxic, mean_toxicity, toxic_share)] == [1.0] * 4
    assert any_toxic([0.4999]) == 0.0


@pytest.mark.parametrize("scores", [[], [1.2], [-0.1], [float("nan")]])
def test_scores_that_are_no_probabilities_are_refused(scores):
    with pytest.raises(ValueError, match="from 0 to 1"):
        mean_toxicity(scores)


def test_mmlu_has_57_subjects_in_four_groups():
    sizes = {group: sum(found == group for found in GROUP_OF_SUBJECT.values()) for group in GROUPS}
    assert sizes == {"stem": 19, "humanities": 13, "social_sciences": 12, "other": 13}


def test_mmlu_subjects_are_those_of_the_data():
    with shared_data("mmlu/dev.jsonl").open(encoding="utf-8") as lines:
        found = {json.loads(line)["subject"].replace(" ", "_") for line in lines}
    assert found == set(GROUP_OF_SUBJECT)
