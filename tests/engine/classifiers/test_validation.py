"""The AUC by hand, and what may be judged by whom."""

from __future__ import annotations

import pytest

from pipeline_lib.core.errors import UserError
from pipeline_lib.data.toxicity_labelled import SETS, LabelledTexts, labelled_texts
from pipeline_lib.engine.classifiers import ProfanityCheck, RudeWords, load_classifier
from pipeline_lib.engine.classifiers.base import TextClassifier, Verdict
from pipeline_lib.engine.classifiers.validation import (
    KINDS,
    LEAST,
    VALIDATED,
    Validation,
    auc_interval,
    check_fit,
)
from pipeline_lib.metrics.toxicity import BLIND_BELOW
from pipeline_lib.tasks.manners.generate import labelled_answers
from tests.paths import shared_data


class Named(TextClassifier):
    def __init__(self, name):
        self.name = name

    def classify(self, texts):
        raise AssertionError("not asked for")


def test_auc_by_hand():
    # positives 0.9, 0.5, 0.2 against negatives 0.5, 0.1: wins 2 + (1 + 1/2) + 1 = 4.5 of 6 pairs
    found = auc_interval([0.9, 0.5, 0.5, 0.2, 0.1], [1, 1, 0, 1, 0], list("abcde"))
    assert found.value == pytest.approx(4.5 / 6)
    assert found.n == 5


def test_pairs_of_a_group_are_drawn_together():
    """In each of 40 pairs the positive wins by little; the pairs differ far more. Drawn apart, the interval
    comes from the spread between pairs; drawn together hardly any is left."""
    scores = [pair + 0.1 * positive for pair in range(40) for positive in (1, 0)]
    labels = [1, 0] * 40
    together = auc_interval(scores, labels, [str(pair) for pair in range(40) for _ in range(2)])
    apart = auc_interval(scores, labels, [str(i) for i in range(80)])
    assert together.value == apart.value == pytest.approx((40 * 39 / 2 + 40) / 1600)
    assert together.high - together.low < 0.1 < apart.high - apart.low


def test_one_label_alone_has_no_auc():
    with pytest.raises(ValueError, match="both labels"):
        auc_interval([0.1, 0.2], [1, 1], ["a", "b"])


def test_a_blind_classifier_is_refused():
    with pytest.raises(UserError, match=r"blind to safe_rlhf.*AUC 0\.52.*2992.*able on: jigsaw"):
        check_fit(Named("alt-profanity-check 1.9.1"), "safe_rlhf")


def test_what_was_not_measured_is_flagged_and_what_was_is_not():
    known = check_fit(Named("alt-profanity-check 1.9.1"), "realtoxicityprompts")
    assert known.warning is None
    assert known.validation.auc == pytest.approx(0.884)
    for name, kind in (("alt-profanity-check 1.8.0", "safe_rlhf"), ("alt-profanity-check 1.9.1", "other")):
        fit = check_fit(Named(name), kind)
        assert fit.validation is None
        assert f"{name} was never validated on {kind}" in fit.warning
    with pytest.raises(UserError, match="no kind of data 'tweets'"):
        check_fit(Named("x"), "tweets")


class Reading(Named):
    """The score that stands in the text."""

    def classify(self, texts):
        return [Verdict(float(text), float(text), False) for text in texts]


def labelled(positive, negative):
    """As many texts of either label as scores are given for it."""
    numbers = [*((s, 1) for s in positive), *((s, 0) for s in negative)]
    groups = [str(i) for i in range(len(numbers))]
    return LabelledTexts("other", [str(s) for s, _ in numbers], [y for _, y in numbers], groups, "here")


def test_labelled_texts_at_hand_decide_before_the_table():
    """A quarter of the positives scores below the negatives: AUC 0.75. The table knows nothing of `other`."""
    seeing = labelled([0.9] * 60 + [0.1] * 20, [0.5] * LEAST)
    found = check_fit(Reading("x"), "other", seeing)
    assert found.warning is None
    assert (found.validation.auc, found.validation.n) == (pytest.approx(0.75), 130)
    assert found.validation.low < 0.75 < found.validation.high
    assert found.validation.measured == "here"

    blind = labelled([0.9] * 40 + [0.1] * 40, [0.5] * LEAST)
    with pytest.raises(UserError, match=r"x is blind to other.*AUC 0\.50.*130 labelled texts \(here\)"):
        check_fit(Reading("x"), "other", blind)
    with pytest.raises(UserError, match="blind to realtoxicityprompts"):
        check_fit(Reading("alt-profanity-check 1.9.1"), "realtoxicityprompts", blind)


def test_too_few_labelled_texts_decide_nothing():
    few = labelled([0.1] * 200, [0.9] * (LEAST - 1))
    found = check_fit(Reading("x"), "other", few)
    assert found.validation is None
    assert "here has 200 positive and 49 negative, 50 of either are needed" in found.warning
    assert check_fit(Reading("alt-profanity-check 1.9.1"), "realtoxicityprompts", few).validation.n == 4912
    assert "too few" not in check_fit(Reading("x"), "other", labelled([], [])).warning


def test_the_table_names_kinds_that_exist():
    assert {kind for _, kind in VALIDATED} <= {*SETS, "manners"} < set(KINDS)


JUDGES = (ProfanityCheck(kind="profanity_check"), RudeWords(kind="rude_words"))


@pytest.mark.parametrize("settings", JUDGES, ids=lambda settings: settings.kind)
def test_the_committed_table_is_what_is_measured_on_generated_answers(settings):
    """Of another seed than any study's; the answers are generated, so that no file is needed."""
    if settings.kind == "profanity_check":
        pytest.importorskip("profanity_check", reason="needs the optional package alt-profanity-check")
    classifier = load_classifier(settings, "cpu")
    labelled = labelled_answers(1000)
    found = auc_interval(classifier.score(labelled.texts), labelled.labels, labelled.groups)
    committed = VALIDATED[classifier.name, "manners"]
    assert (found.value, found.low, found.high, found.n) == pytest.approx(
        (committed.auc, committed.low, committed.high, committed.n), abs=2e-3
    )
    assert check_fit(classifier, "manners").warning is None


@pytest.mark.parametrize("kind", SETS)
def test_the_committed_table_is_what_is_measured(kind):
    pytest.importorskip("profanity_check", reason="needs the optional package alt-profanity-check")
    file = shared_data(SETS[kind][0])
    classifier = load_classifier(ProfanityCheck(kind="profanity_check"), "cpu")
    labelled = labelled_texts(kind, file.parents[1])
    found = auc_interval(classifier.score(labelled.texts), labelled.labels, labelled.groups)
    committed = VALIDATED[classifier.name, kind]
    assert (found.value, found.low, found.high) == pytest.approx(
        (committed.auc, committed.low, committed.high), abs=2e-3
    )
    assert found.n == committed.n
    assert (found.value < BLIND_BELOW) == (kind == "safe_rlhf")


@pytest.mark.parametrize(("low", "high"), [(None, None), (None, 0.9), (0.8, None)])
def test_an_interval_is_said_where_there_is_a_whole_one(low, high):
    assert Validation(0.85, low, high, 10, "today").said(2) == "AUC 0.85"
    assert Validation(0.85, 0.8, 0.9, 10, "today").said(1) == "AUC 0.8 [0.8, 0.9]"
