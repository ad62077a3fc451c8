"""ROUGE: how much of the true answer's wording the greedy answer repeats.

Source: Lin 2004, computed by the `rouge-score` package with Porter stemming, as TOFU does (recall); MUSE
(arXiv 2407.06460) reports F1.
Formulas, with c = longest common subsequence of words (ROUGE-L) or common words with clipped counts
    (ROUGE-1): recall    c / words of the true answer
    precision c / words of the greedy answer
    F1        2 precision recall / (precision + recall), 0 where nothing is common
Range: 0 to 1. Direction: higher is better, except on the forget split.
What a word is follows from the true answer (`tokenizer_of`), so that all models' answers to it are on one
scale:
    rouge-score   all letters and digits of the true answer are ASCII: the package's own words, which drop
                  everything but a-z and 0-9 and are stemmed. The numbers are the package's, bit for bit.
    unicode       any other letter or digit is in it: words of pipeline_lib/words.py; characters where a
                  script has no spaces between words. ASCII words are stemmed as above, so that a text of
                  both kinds is on the same scale.
    characters    no letter and no digit is in it ("+", an emoji): every character that is not a space.
A split in which few answers hold an accent is compared by the package's words as a whole (`tokenizers_of`).
Traps: recall does not punish length, so a model that rambles until the limit scores higher; it depends on
`max_new_tokens`, so compare only at one limit. F1 punishes every further word, so it is low for a chatty
model that knows the answer. Counted by characters, unrelated answers share more than by words: compare with
`retrained`, and within one language. Other projects take the package's words for every text: there a name
with an accent falls apart, and an answer in another script scores 0.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from typing import Literal

from rouge_score.rouge_scorer import RougeScorer
from rouge_score.tokenizers import DefaultTokenizer, Tokenizer

from pipeline_lib.words import is_latin, pieces

Kind = Literal["rouge1", "rougeL"]
Words = Literal["rouge-score", "unicode", "characters"]

SELDOM = 0.2  # share of a split's answers up to which accents are those of names

_PLAIN, _STEMMING = DefaultTokenizer(use_stemmer=False), DefaultTokenizer(use_stemmer=True)
_FURTHER = re.compile(r"[^\W\x00-\x7f]")  # a letter or digit that is not ASCII


@cache
def _stems(word: str) -> list[str]:
    return _STEMMING.tokenize(word)


class _CachedStems(Tokenizer):
    """The package's stemming tokenizer, which spends most of its time on words that it has stemmed before."""

    def tokenize(self, text: str) -> list[str]:
        return [stem for word in _PLAIN.tokenize(text) for stem in _stems(word)]


class _Unicode(Tokenizer):
    """Words of any script; what the package would find in an ASCII text is found here too."""

    def tokenize(self, text: str) -> list[str]:
        return [stem for word in pieces(text) for stem in (_stems(word) if word.isascii() else (word,))]


class _Characters(Tokenizer):
    def tokenize(self, text: str) -> list[str]:
        return [char for char in text if not char.isspace()]


_TOKENIZERS: dict[Words, Tokenizer] = {
    "rouge-score": _CachedStems(),
    "unicode": _Unicode(),
    "characters": _Characters(),
}


def tokenizer_of(reference: str) -> Words:
    """Which words answers to this true answer are compared by."""
    if _FURTHER.search(reference):
        return "unicode" if pieces(reference) else "characters"
    return "rouge-score" if _PLAIN.tokenize(reference) else "characters"


def tokenizers_of(references: Sequence[str]) -> list[Words]:
    """`tokenizer_of` each true answer of a split, but for a few accents in a split of plain ASCII.

    Where fewer than one in five answers in Latin letters hold one beyond ASCII they are names in an English
    text (24 of TOFU's 400 judged retain answers): the package's words, for the published numbers' sake.
    """
    found = [tokenizer_of(text) for text in references]
    latin = [is_latin(text) for text in references]
    accented = [here and words == "unicode" for here, words in zip(latin, found, strict=True)]
    if sum(accented) >= SELDOM * sum(latin):
        return found
    return [
        "rouge-score" if name and _PLAIN.tokenize(text) else words
        for name, text, words in zip(accented, references, found, strict=True)
    ]


@cache
def _scorer(kind: Kind, words: Words) -> RougeScorer:
    return RougeScorer([kind], tokenizer=_TOKENIZERS[words])


def rouge_recall(generation: str, reference: str, kind: Kind = "rougeL", words: Words | None = None) -> float:
    """Recall of `reference` in `generation`."""
    return rouge_recall_and_f1(generation, reference, kind, words)[0]


def rouge_recall_and_f1(
    generation: str, reference: str, kind: Kind = "rougeL", words: Words | None = None
) -> tuple[float, float]:
    """(recall, F1), from one comparison of the texts. `words`: what a word is; None: `tokenizer_of`."""
    score = _scorer(kind, words or tokenizer_of(reference)).score(reference, generation)[kind]
    return score.recall, score.fmeasure
