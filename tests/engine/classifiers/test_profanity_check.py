"""The offline classifier: what it says without its package, and with it."""

from __future__ import annotations

import sys

import pytest

from pipeline_lib.core.errors import UserError
from pipeline_lib.engine.classifiers import ProfanityCheck, load_classifier


def test_without_the_package_the_command_that_installs_it_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "profanity_check", None)
    with pytest.raises(UserError, match=r"pip install 'unlearning-pipeline\[toxicity\]'"):
        load_classifier(ProfanityCheck(kind="profanity_check"), "cpu")


def test_scores_rank_and_stay_within_0_and_1():
    pytest.importorskip("profanity_check", reason="needs the optional package alt-profanity-check")
    classifier = load_classifier(ProfanityCheck(kind="profanity_check"), "cpu")
    polite, rude = classifier.classify(["Thank you for the lovely letter.", "you are a fucking idiot"])
    assert 0 <= polite.score < 0.2 < 0.8 < rude.score <= 1
    assert (rude.any_label, rude.truncated) == (rude.score, False)
    assert classifier.score([]) == []
    assert classifier.name.startswith("alt-profanity-check 1.")
