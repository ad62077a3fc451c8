"""BLEU: shared word sequences of one to four words, with a penalty for short answers.

Source: Papineni et al. 2002, computed by sacrebleu (Post 2018, arXiv 1804.08771) with its own tokenizer
("13a"), case kept, exponential smoothing of n-gram orders without a match.
Formula: 100 BP exp(mean over n of ln p_n), p_n = clipped n-gram precision, BP = exp(1 - r / c) where the
answer (c words) is shorter than the reference (r words), else 1.
    sentence   one answer; only orders that the answer is long enough for ("effective order")
    corpus     p_n and lengths from the counts of all answers together, all four orders
    released   SOUL's: the corpus form of one answer alone, so 0 for an answer of fewer than four words
Range: 0 to 100. Direction: higher is better, except on the forget split.
Traps: the mean of sentence BLEU is not the corpus BLEU: say which one. Smoothing keeps short wrong answers
that share one word above 0.

Shapes: N answers, R resamples. Statistics of an answer: (4 matches, 4 totals, answer length, reference
length).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from sacrebleu.metrics.bleu import BLEU

_SENTENCE = BLEU(effective_order=True, force=True)  # force: no warning about spaced punctuation
_CORPUS = BLEU(force=True)
_ORDER = 4


def sentence_bleu(generation: str, reference: str) -> float:
    """BLEU of one answer, 0 to 100."""
    return _SENTENCE.sentence_score(generation, [reference]).score


def released_bleu(generation: str, reference: str) -> float:
    """SOUL's BLEU of one answer, 0 to 100."""
    return _CORPUS.corpus_score([generation], [[reference]]).score


def corpus_bleu(generations: Sequence[str], references: Sequence[str]) -> float:
    """BLEU of all answers together, 0 to 100."""
    if not generations or len(generations) != len(references):
        raise ValueError(
            f"expected as many references as answers, at least one; found {len(generations)} and "
            f"{len(references)}"
        )
    return _CORPUS.corpus_score(list(generations), [list(references)]).score


def bleu_statistics(generations: Sequence[str], references: Sequence[str]) -> np.ndarray:
    """What corpus BLEU needs of each answer, (N, 10)."""
    rows = []
    for generation, reference in zip(generations, references, strict=True):
        score = _CORPUS.corpus_score([generation], [[reference]])
        rows.append([*score.counts, *score.totals, score.sys_len, score.ref_len])
    return np.array(rows, dtype=float)


def corpus_bleu_draws(counts: np.ndarray, statistics: np.ndarray) -> np.ndarray:
    """Corpus BLEU of each resample, (R,), from counts (R, N) and statistics (N, 10)."""
    sums = np.rint(counts @ statistics).astype(int)
    return np.array(
        [
            BLEU.compute_bleu(
                list(row[:_ORDER]),
                list(row[_ORDER : 2 * _ORDER]),
                int(row[-2]),
                int(row[-1]),
                smooth_method="exp",
            ).score
            for row in sums
        ]
    )
