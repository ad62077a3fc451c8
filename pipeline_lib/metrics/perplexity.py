"""Perplexity: how many equally likely choices the model hesitates between at each token, word or byte.

Source: Jelinek et al. 1977; word and byte forms as in lm-evaluation-harness; bits per byte: The Pile (arXiv
2101.00027, section 3.1).
Formulas over a corpus, never a mean of single perplexities: exp(sum of NLL / sum of units);
bits per byte = sum of NLL / (sum of bytes * ln 2) = log2 of the byte perplexity.
Range: 1 upwards; bits per byte 0 upwards. Direction: lower is better, except on the forget split.
Traps: per token it compares models with one tokenizer only, per byte all of them. Words are what lies between
spaces, so the number depends on how a corpus writes them, and texts in scripts without spaces have none. NLL
per unit above 700 nats (a broken model) gives exp(700), about 1e304, because the true value overflows.

Shapes: N texts, R resamples.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike

from pipeline_lib.metrics.definition import INF, Metric
from pipeline_lib.metrics.needs import SPACED_WORDS
from pipeline_lib.metrics.statistics import Interval, interval
from pipeline_lib.metrics.subjects import Split

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


def _sizes(split: Split) -> dict[str, list[float]]:
    """Summed NLL, tokens, words and UTF-8 bytes of each text; a benchmark's rows bring the last two."""
    answers = [row.get("answer", "") for row in split.rows]
    return {
        "nll": [row["answer_nll"] for row in split.rows],
        "tokens": [row["answer_tokens"] for row in split.rows],
        "words": [row.get("words", words_of(text)) for row, text in zip(split.rows, answers, strict=True)],
        "bytes": [
            row.get("bytes", len(text.encode())) for row, text in zip(split.rows, answers, strict=True)
        ],
    }


def _of_corpus(split: Split, units: str, form: Callable[[ArrayLike], np.ndarray] = perplexity) -> Interval:
    nll, sizes = (np.array(split.once(_sizes)[name]) for name in ("nll", units))
    value = form(nll_per_unit(nll, sizes))
    return interval(float(value), form(nll_per_unit(nll, sizes, split.counts)), len(nll))


_TOKEN = Metric(
    name="token_perplexity",
    label="Perplexity per token",
    short_label="token perplexity",
    higher_is_better=False,
    higher_is_better_on_forget=True,
    range=(1, INF),
    source="Jelinek et al. 1977; the units of lm-evaluation-harness",
    formula="exp(sum of NLL / sum of tokens) over the split",
    trap="saturates at exp(700); compare models with one tokenizer only",
    family="Wording and memorisation",
    fields=("answer_nll",),
    of="split",
    compute=lambda split: _of_corpus(split, "tokens"),
    order=110,
    also={"benchmarks": 610},
)
METRICS = [
    _TOKEN,
    replace(
        _TOKEN,
        name="word_perplexity",
        label="Perplexity per word",
        short_label="perplexity a word",
        formula="exp(sum of NLL / sum of words), words = text between spaces",
        trap="saturates at exp(700); depends on how a corpus writes its spaces",
        tables={"benchmarks": 40},
        needs=(SPACED_WORDS,),
        compute=lambda split: _of_corpus(split, "words"),
        order=111,
        also={"benchmarks": 611},
    ),
    replace(
        _TOKEN,
        name="byte_perplexity",
        label="Perplexity per byte",
        short_label="",
        formula="exp(sum of NLL / sum of UTF-8 bytes)",
        trap="comparable between tokenizers; saturates at exp(700)",
        compute=lambda split: _of_corpus(split, "bytes"),
        order=112,
        also={"benchmarks": 612},
    ),
    replace(
        _TOKEN,
        name="bits_per_byte",
        label="Bits per byte",
        short_label="",
        range=(0, INF),
        source="The Pile, arXiv 2101.00027, section 3.1",
        formula="sum of NLL / (sum of UTF-8 bytes * ln 2)",
        trap="the end token's NLL is in the sum, but it has no byte",
        compute=lambda split: _of_corpus(split, "bytes", bits),
        order=113,
        also={"benchmarks": 613},
    ),
]
