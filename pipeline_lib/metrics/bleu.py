"""BLEU: shared word sequences of one to four words, with a penalty for short answers.

Source: Papineni et al. 2002, computed by sacrebleu (Post 2018, arXiv 1804.08771), case kept, exponential
smoothing of n-gram orders without a match.
Formula: 100 BP exp(mean over n of ln p_n), p_n = clipped n-gram precision, BP = exp(1 - r / c) where the
answer (c words) is shorter than the reference (r words), else 1.
    sentence   one answer; only orders that the answer is long enough for ("effective order")
    corpus     p_n and lengths from the counts of all answers together, all four orders
    released   SOUL's: the corpus form of one answer alone, so 0 for an answer of fewer than four words
Words are those of sacrebleu's tokenizers, chosen by the script of the reference (`tokenizer_of`), so that all
models' answers to it are on one scale: "13a" (its default) for Latin letters, "zh" for Chinese, "char" for
other scripts without spaces between words, "intl" (punctuation of every script) for the rest. Korean and
Japanese have tokenizers of their own there, which need dictionaries that are not installed. The released
form takes "13a" for every text, as the code does.
Range: 0 to 100. Direction: higher is better, except on the forget split.
Traps: the mean of sentence BLEU is not the corpus BLEU: say which one. Smoothing keeps short wrong answers
that share one word above 0. Numbers of different tokenizers are on different scales: by characters they are
higher.

Shapes: N answers, R resamples. Statistics of an answer: (4 matches, 4 totals, answer length, reference
length).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Literal

import numpy as np

from pipeline_lib.metrics.definition import Metric
from pipeline_lib.metrics.needs import FOUR_WORDS
from pipeline_lib.metrics.rows import reference_of
from pipeline_lib.metrics.statistics import Interval, interval
from pipeline_lib.metrics.subjects import Split

if TYPE_CHECKING:
    from sacrebleu.metrics.bleu import BLEU

from pipeline_lib.metrics.words import has_spaces_between_words, is_chinese, letters_of

Words = Literal["13a", "zh", "char", "intl"]

_ORDER = 4
_HIGHEST = 100.0  # the logarithms of a perfect answer's shares leave a rounding error above it


def tokenizer_of(reference: str) -> Words:
    """Which of sacrebleu's tokenizers parts answers to this reference into words."""
    if not has_spaces_between_words(reference):
        return "zh" if is_chinese(reference) else "char"
    letters = letters_of(reference)
    return "13a" if letters["latin"] >= letters["other"] else "intl"


@cache
def _sacrebleu(words: Words, effective_order: bool = False) -> BLEU:
    from sacrebleu.metrics.bleu import BLEU  # heavy; declarations are read where nothing is compared

    # force: no warning about spaced punctuation
    return BLEU(tokenize=words, force=True, effective_order=effective_order)


def sentence_bleu(generation: str, reference: str) -> float:
    """BLEU of one answer, 0 to 100."""
    found = _sacrebleu(tokenizer_of(reference), effective_order=True).sentence_score(generation, [reference])
    return min(_HIGHEST, found.score)


def released_bleu(generation: str, reference: str) -> float:
    """SOUL's BLEU of one answer, 0 to 100."""
    return min(_HIGHEST, _sacrebleu("13a").corpus_score([generation], [[reference]]).score)


def bleu_statistics(generations: Sequence[str], references: Sequence[str]) -> np.ndarray:
    """What corpus BLEU needs of each answer, (N, 10)."""
    rows = []
    for generation, reference in zip(generations, references, strict=True):
        score = _sacrebleu(tokenizer_of(reference)).corpus_score([generation], [[reference]])
        rows.append([*score.counts, *score.totals, score.sys_len, score.ref_len])
    return np.array(rows, dtype=float)


def corpus_bleu_draws(counts: np.ndarray, statistics: np.ndarray) -> np.ndarray:
    """Corpus BLEU of each resample, (R,), from counts (R, N) and statistics (N, 10)."""
    scores = [
        _sacrebleu("13a")
        .compute_bleu(
            list(row[:_ORDER]),
            list(row[_ORDER : 2 * _ORDER]),
            int(row[-2]),
            int(row[-1]),
            smooth_method="exp",
        )
        .score
        for row in np.rint(counts @ statistics).astype(int)
    ]
    return np.minimum(scores, _HIGHEST)


def _of_corpus(split: Split) -> Interval:
    statistics = bleu_statistics(
        [row["generation"] for row in split.rows], [reference_of(row) for row in split.rows]
    )
    n = len(statistics)
    FOUR_WORDS.demand(statistics[:, -1].max(), n)
    value = corpus_bleu_draws(np.ones((1, n)), statistics)[0]
    return interval(float(value), corpus_bleu_draws(split.counts, statistics), n, shifts=True)


_MEAN = Metric(
    name="bleu",
    label="BLEU (mean of answers)",
    short_label="BLEU",
    higher_is_better=True,
    higher_is_better_on_forget=False,
    range=(0, 100),
    source="Papineni et al. 2002, by sacrebleu (Post 2018, arXiv 1804.08771)",
    formula="mean over answers of sentence BLEU, exponential smoothing, effective order; sacrebleu's "
    "tokenizer by the true answer's script: 13a (Latin), zh, char (other scripts without spaces), intl",
    trap="smoothing keeps short wrong answers above 0; not the corpus BLEU",
    family="Wording and memorisation",
    tables={"extraction": 10},
    by_words=True,
    fields=("generation",),
    compute=lambda row: sentence_bleu(row["generation"], reference_of(row)),
    order=42,
)
METRICS = [
    _MEAN,
    replace(
        _MEAN,
        name="bleu_corpus",
        label="BLEU (corpus)",
        short_label="",
        formula="one BLEU from the n-gram counts and lengths of all answers together",
        trap="not a mean of answers: long answers weigh more",
        tables={},
        needs=(FOUR_WORDS,),
        of="split",
        compute=_of_corpus,
        order=100,
    ),
]
