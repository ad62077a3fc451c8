"""Exact Memorization: the share of answer tokens the model would have chosen itself.

Source: Tirumala et al. 2022 (arXiv 2205.10770), as used by OpenUnlearning (arXiv 2506.12618).
Formula: number of teacher-forced argmax tokens that equal the answer's / answer tokens.
Range: 0 to 1. Direction: higher is better, except on the forget split.
Traps: common words are right without any memory of the text, so the value of `retrained` is the floor to
compare with, not 0. The end token counts as a token.
"""

from __future__ import annotations

from collections.abc import Sequence

from pipeline_lib.metrics.definition import Metric


def exact_memorization(argmax_correct: Sequence[int]) -> float:
    """Share of right tokens."""
    return sum(argmax_correct) / len(argmax_correct)


METRICS = [
    Metric(
        name="exact_memorization",
        label="Exact Memorization",
        short_label="Exact memorization",
        higher_is_better=True,
        higher_is_better_on_forget=False,
        range=(0, 1),
        source="OpenUnlearning, arXiv 2506.12618",
        formula="share of answer tokens that are the model's argmax, teacher forced",
        trap="common words are right without memory: `retrained` is the floor, not 0",
        family="Wording and memorisation",
        compute=lambda row: exact_memorization(row["argmax_correct"]),
        order=31,
    )
]
