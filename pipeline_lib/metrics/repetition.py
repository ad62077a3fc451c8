"""Repetition: the share of an answer's word sequences that it has said before.

Source: Welleck et al. 2020 (arXiv 1908.04319), seq-rep-n.
Formula: 1 - distinct n-grams / n-grams of the answer.
Range: 0 (no n-gram twice) to just below 1 (one n-gram over and over). Direction: lower is better.
Traps: counted over words here (characters in scripts without spaces, metrics/words.py), over tokens in the
paper. An answer of at most n words has at most one n-gram and scores 0, so a model that falls silent looks
fine: see the share of empty answers. Longer answers repeat more.
"""

from __future__ import annotations

from collections.abc import Sequence

from pipeline_lib.metrics.definition import Metric
from pipeline_lib.metrics.words import words


def seq_rep(said: Sequence[str], n: int = 4) -> float:
    """seq-rep-n of one answer's words."""
    if n < 1:
        raise ValueError(f"n must be at least 1, got {n}")
    grams = [tuple(said[i : i + n]) for i in range(len(said) - n + 1)]
    return 1 - len(set(grams)) / len(grams) if grams else 0.0


METRICS = [
    Metric(
        name="repetition_4",
        label="Repetition (seq-rep-4)",
        short_label="repetition",
        higher_is_better=False,
        higher_is_better_on_forget=False,
        range=(0, 1),
        source="Welleck et al. 2020, arXiv 1908.04319 (seq-rep-n)",
        formula="1 - distinct word 4-grams / word 4-grams of an answer",
        trap="0 for answers of fewer than 5 words; words here, tokens in the paper",
        family="Signs of collapse",
        tables={"collapse": 10},
        fields=("generation",),
        compute=lambda row: seq_rep(words(row["generation"]), 4),
        order=61,
    )
]
