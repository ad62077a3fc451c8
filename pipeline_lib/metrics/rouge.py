"""ROUGE: how much of the true answer's wording the greedy answer repeats.

Source: Lin 2004, computed by the `rouge-score` package with Porter stemming, as TOFU does (recall); MUSE
(arXiv 2407.06460) reports F1.
Formulas, with c = longest common subsequence of words (ROUGE-L) or clipped common words (ROUGE-1):
    recall     c / words of the true answer
    precision  c / words of the greedy answer
    F1         2 precision recall / (precision + recall), 0 where nothing is common
Range: 0 to 1. Direction: higher is better, except on the forget split.
What a word is follows from the true answer (`tokenizer_of`), so that all models' answers to it are on one
scale:
    rouge-score   all letters and digits of the true answer are ASCII: the package's own words, which drop
                  everything but a-z and 0-9 and are stemmed. The numbers are the package's, bit for bit.
    unicode       any other letter or digit is in it: words of metrics/words.py; characters where a
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
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Literal

from pipeline_lib.metrics.definition import INF, Metric
from pipeline_lib.metrics.rows import reference_of
from pipeline_lib.metrics.statistics import Interval, without_interval
from pipeline_lib.metrics.subjects import Split

if TYPE_CHECKING:
    from rouge_score.rouge_scorer import RougeScorer
    from rouge_score.tokenizers import DefaultTokenizer

from pipeline_lib.metrics.words import is_latin, pieces

Kind = Literal["rouge1", "rougeL"]
Words = Literal["rouge-score", "unicode", "characters"]

SELDOM = 0.2  # share of a split's answers up to which accents are those of names

_FURTHER = re.compile(r"[^\W\x00-\x7f]")  # a letter or digit that is not ASCII


@dataclass(frozen=True)
class Tokenizer:
    """What the package's scorer asks of one: `tokenize` gives the words of a text."""

    tokenize: Callable[[str], list[str]]


@cache
def _package(stems: bool) -> DefaultTokenizer:
    # Heavy; declarations are read where nothing is compared.
    from rouge_score.tokenizers import DefaultTokenizer

    return DefaultTokenizer(use_stemmer=stems)


@cache
def _stems(word: str) -> list[str]:
    return _package(stems=True).tokenize(word)


def _plain(text: str) -> list[str]:
    return _package(stems=False).tokenize(text)


_TOKENIZERS: dict[Words, Tokenizer] = {
    # The package's own with stemming, which spends most of its time on words that it has stemmed before.
    "rouge-score": Tokenizer(lambda text: [stem for word in _plain(text) for stem in _stems(word)]),
    # Words of any script; what the package would find in an ASCII text is found here too.
    "unicode": Tokenizer(
        lambda text: [stem for word in pieces(text) for stem in (_stems(word) if word.isascii() else (word,))]
    ),
    "characters": Tokenizer(lambda text: [char for char in text if not char.isspace()]),
}


def tokenizer_of(reference: str) -> Words:
    """Which words answers to this true answer are compared by."""
    if _FURTHER.search(reference):
        return "unicode" if pieces(reference) else "characters"
    return "rouge-score" if _plain(reference) else "characters"


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
        "rouge-score" if name and _plain(text) else words
        for name, text, words in zip(accented, references, found, strict=True)
    ]


@cache
def _scorer(kind: Kind, words: Words) -> RougeScorer:
    from rouge_score.rouge_scorer import RougeScorer

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


def _of_split(split: Split, kind: Kind) -> list[tuple[float, float]]:
    """(recall, F1) of each greedy answer."""
    references = [reference_of(row) for row in split.rows]
    chosen = zip(split.rows, references, tokenizers_of(references), strict=True)
    return [rouge_recall_and_f1(row["generation"], text, kind, words) for row, text, words in chosen]


def _beyond_ascii(split: Split) -> Interval | None:
    """How many true answers are compared by other words than the package's; None: none."""
    found = tokenizers_of([reference_of(row) for row in split.rows])
    further = sum(name != "rouge-score" for name in found)
    return without_interval(further, len(found)) if further else None


_LIN = "Lin 2004, by the package rouge-score with stemming"
_RECALL = Metric(
    name="rouge_l_recall",
    label="ROUGE-L recall",
    short_label="ROUGE-L",
    higher_is_better=True,
    higher_is_better_on_forget=False,
    range=(0, 1),
    source="TOFU, arXiv 2401.06121",
    formula="longest common subsequence of words / words of the true answer",
    trap="a model that rambles until the limit scores higher; words follow the true answer's script",
    family="Wording and memorisation",
    tables={"utility": 20, "extraction": 20},
    by_words=True,
    fields=("generation",),
    of="column",
    compute=lambda split: [recall for recall, _ in split.once(_of_split, "rougeL")],
    order=10,
)
METRICS = [
    _RECALL,
    replace(
        _RECALL,
        name="rouge_l_f1",
        label="ROUGE-L F1",
        short_label="",
        source=f"{_LIN}; MUSE, arXiv 2407.06460",
        formula="harmonic mean of ROUGE-L recall and precision",
        trap="punishes longer answers, so it is low for a chatty model that knows the answer",
        tables={},
        compute=lambda split: [f1 for _, f1 in split.once(_of_split, "rougeL")],
        order=11,
    ),
    replace(
        _RECALL,
        name="rouge_1_recall",
        label="ROUGE-1 recall",
        short_label="",
        source=_LIN,
        formula="common words (clipped counts) / words of the true answer",
        trap="ignores order: common words alone give a floor well above 0",
        tables={},
        compute=lambda split: [recall for recall, _ in split.once(_of_split, "rouge1")],
        order=40,
    ),
    replace(
        _RECALL,
        name="rouge_1_f1",
        label="ROUGE-1 F1",
        short_label="",
        source=_LIN,
        formula="harmonic mean of ROUGE-1 recall and precision",
        trap="as ROUGE-1 recall and ROUGE-L F1",
        tables={},
        compute=lambda split: [f1 for _, f1 in split.once(_of_split, "rouge1")],
        order=41,
    ),
    Metric(
        name="unicode_answers",
        label="True answers beyond ASCII (count)",
        higher_is_better=None,
        higher_is_better_on_forget=None,
        range=(0, INF),
        source="this project",
        formula="number of true answers with letters or digits beyond ASCII, or with none at all: ROUGE "
        "compares them by Unicode words (characters where a script has no spaces), all others by "
        "rouge-score's words",
        trap="about the data, not the model; no row where there is no such answer",
        family="Wording and memorisation",
        no_interval="counted, not sampled",
        fields=("generation",),
        of="split",
        compute=_beyond_ascii,
        order=101,
    ),
]
