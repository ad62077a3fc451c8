"""What every classifier of text offers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Verdict:
    """What a classifier says of one text.

    `score`: probability of the class asked for, 0 to 1. `any_label`: where several classes may hold at once,
    the largest of their probabilities (which the paper's code averages); else the same as `score`.
    `truncated`: the text was longer than the classifier reads, and its end was not judged.
    """

    score: float
    any_label: float
    truncated: bool


class TextClassifier(ABC):
    """Texts in, probabilities out. `name` says which weights and which class, for tables and files.

    `made_for`: the kinds of data (validation.KINDS) that it can judge at all; None: any.
    """

    name: str
    made_for: frozenset[str] | None = None

    @abstractmethod
    def classify(self, texts: Sequence[str]) -> list[Verdict]:
        """One verdict a text, in order; a text's verdict does not depend on the other texts."""

    def score(self, texts: Sequence[str]) -> list[float]:
        """Probability of the class asked for, 0 to 1, of each text."""
        return [verdict.score for verdict in self.classify(texts)]
