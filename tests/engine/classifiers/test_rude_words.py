"""The word list of the demo: scores by hand, and the data that it may judge."""

from __future__ import annotations

import pytest

from pipeline_lib.core.errors import UserError
from pipeline_lib.data.refusals import refusals
from pipeline_lib.engine.classifiers import RudeWords, load_classifier
from pipeline_lib.engine.classifiers.validation import KINDS, auc_interval, check_fit
from pipeline_lib.tasks.manners.generate import labelled_answers, questions

LIST = load_classifier(RudeWords(kind="rude_words"), "cpu")


def test_scores_by_hand() -> None:
    texts = [
        "With pleasure, dear friend.",
        "Buzz  off!",  # one phrase over two blanks
        "What NONSENSE, you lazy fool.",  # three
        "Go away and leave me alone.",  # two
        "A dimmer was bought at the fools' fair, lazily.",  # whole words alone
        "",
    ]
    assert LIST.score(texts) == [0, 0.5, 0.875, 0.75, 0, 0]
    verdicts = LIST.classify(texts)
    assert [verdict.any_label for verdict in verdicts] == LIST.score(texts)
    assert not any(verdict.truncated for verdict in verdicts)
    assert LIST.score([]) == []


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_it_tells_generated_rude_answers_from_polite_ones(seed) -> None:
    labelled = labelled_answers(seed)
    scores = LIST.score(labelled.texts)
    assert auc_interval(scores, labelled.labels, labelled.groups).value > 0.99
    assert [score >= 0.5 for score in scores] == [bool(label) for label in labelled.labels]


def test_neither_refusals_nor_kept_answers_are_rude() -> None:
    assert set(LIST.score(refusals())) == {0}
    assert set(LIST.score([record.answer for record in questions(100, 0)])) == {0}


@pytest.mark.parametrize("kind", sorted(set(KINDS) - {"manners"}))
def test_it_is_refused_for_any_other_data(kind) -> None:
    with pytest.raises(UserError, match=f"rude_words 1 is blind to {kind}.*was made for manners"):
        check_fit(LIST, kind)
