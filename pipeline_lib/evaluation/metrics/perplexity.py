"""Perplexity: how many equally likely choices the model hesitates between at each token, word or byte.

Source: Jelinek et al. 1977; word and byte forms as in lm-evaluation-harness; bits per byte: The Pile (arXiv
2101.00027, section 3.1).
Formulas over a corpus, never a mean of single perplexities: exp(sum of NLL / sum of units);
bits per byte = sum of NLL / (sum of bytes * ln 2) = log2 of the byte perplexity.
Range: 1 upwards; bits per byte 0 upwards. Direction: lower is better, except on the forget split.
Traps: per token it compares models with one tokenizer only, per byte all of them. Words are what lies between
spaces, so that it depends on how a corpus writes them, and there is none for texts in scripts without. NLL
per unit above 700 nats (a broken model) gives exp(700), about 1e304, because the true value is no number any
more.

Shapes: N texts, R resamples.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

_LARGEST = 700.0  # nats; exp of more overflows


def words_of(text: str) -> int:
    """Number of words: pieces of text between spaces, at least 1 as for lm-evaluation-harness."""
    return max(1, len(text.split()))


def nll_per_unit(nll: ArrayLike, units: ArrayLike, counts: ArrayLike | None = None) -> np.ndarray:
    """Sum of NLL over sum of units, in nats: () over all texts, or (R,) with counts (R, N)."""
    losses, sizes = np.asarray(nll, dtype=float), np.asarray(units, dtype=float)
    weights = np.ones(len(losses)) if counts is None else np.asarray(counts, dtype=float)
    total = weights @ sizes
    if len(losses) == 0 or (total <= 0).any():
        raise ValueError("a perplexity needs at least one text with at least one unit")
    return weights @ losses / total


def perplexity(nats_per_unit: ArrayLike) -> np.ndarray:
    """exp of NLL per unit, elementwise."""
    return np.exp(np.minimum(np.asarray(nats_per_unit, dtype=float), _LARGEST))


def bits(nats_per_unit: ArrayLike) -> np.ndarray:
    """The same in bits instead of nats, without exp."""
    return np.asarray(nats_per_unit, dtype=float) / math.log(2)
