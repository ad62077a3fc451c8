"""ROUGE: how much of the true answer's wording the greedy answer repeats.

Source: Lin 2004, computed by the `rouge-score` package with Porter stemming, as TOFU does (recall); MUSE
(arXiv 2407.06460) reports F1.
Formulas, with c = longest common subsequence of words (ROUGE-L) or common words with clipped counts
    (ROUGE-1): recall    c / words of the true answer
    precision c / words of the greedy answer
    F1        2 precision recall / (precision + recall), 0 where nothing is common
Range: 0 to 1. Direction: higher is better, except on the forget split.
Traps: recall does not punish length, so a model that rambles until the limit scores higher; it depends on
`max_new_tokens`, so compare only at one limit. F1 punishes every further word, so it is low for a chatty
model that knows the answer. The package drops everything but a-z and 0-9: a reference in another script has
no words and scores 0.
"""

from __future__ import annotations

from functools import cache
from typing import Literal

from rouge_score.rouge_scorer import RougeScorer
from rouge_score.tokenizers import DefaultTokenizer, Tokenizer

Kind = Literal["rouge1", "rougeL"]

_PLAIN, _STEMMING = DefaultTokenizer(use_stemmer=False), DefaultTokenizer(use_stemmer=True)


@cache
def _stems(word: str) -> list[str]:
    return _STEMMING.tokenize(word)


class _CachedStems(Tokenizer):
    """The package's stemming tokenizer, which spends most of its time on words that it has stemmed before."""

    def tokenize(self, text: str) -> list[str]:
        return [stem for word in _PLAIN.tokenize(text) for stem in _stems(word)]


@cache
def _scorer(kind: Kind) -> RougeScorer:
    return RougeScorer([kind], tokenizer=_CachedStems())


def rouge_recall(generation: str, reference: str, kind: Kind = "rougeL") -> float:
    """Recall of `reference` in `generation`."""
    return _scorer(kind).score(reference, generation)[kind].recall


def rouge_recall_and_f1(generation: str, reference: str, kind: Kind = "rougeL") -> tuple[float, float]:
    """(recall, F1), from one comparison of the texts."""
    score = _scorer(kind).score(reference, generation)[kind]
    return score.recall, score.fmeasure
