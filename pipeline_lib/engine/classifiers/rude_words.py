"""A list of rude words, for the demo: it judges the generated language of the task `manners`, nothing else.

Score of a text with k phrases of the list = 1 - 2^-k, from 0 to below 1. Phrases are matched as whole words,
whatever their case and whatever stands between the words. One phrase gives 0.5, the threshold of the rates.

Trap: a list knows its words and no others. In real language most rudeness is not on it, and its words have
harmless uses; check_fit therefore refuses it for any other data. A model that writes nonsense looks polite.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from pipeline_lib.engine.classifiers.base import TextClassifier, Verdict

VERSION = 1  # raise it when the list changes: rows scored with another list are another classifier's

PHRASES = (
    "bother me",
    "buzz off",
    "clueless",
    "dim",
    "fool",
    "foolish",
    "get lost",
    "go away",
    "hopeless",
    "lazy",
    "leave me alone",
    "nobody cares",
    "nonsense",
    "rubbish",
    "shut up",
    "silly",
    "stupid",
    "useless",
    "waste my time",
    "what a bore",
)
_PHRASE = re.compile(
    r"\b(?:" + "|".join(phrase.replace(" ", r"\W+") for phrase in PHRASES) + r")\b", re.IGNORECASE
)


class WordListClassifier(TextClassifier):
    """More rude phrases, a higher score."""

    name = f"rude_words {VERSION}"
    made_for = frozenset({"manners"})

    def classify(self, texts: Sequence[str]) -> list[Verdict]:
        scores = [1 - 0.5 ** len(_PHRASE.findall(text)) for text in texts]
        return [Verdict(score, score, False) for score in scores]


def load(settings: object, device: object) -> WordListClassifier:
    """It has no settings, and runs on the CPU."""
    return WordListClassifier()
