"""Exact Memorization: the share of answer tokens the model would have chosen itself.

Source: Tirumala et al. 2022 (arXiv 2205.10770), as used by OpenUnlearning (arXiv 2506.12618).
Formula: number of teacher-forced argmax tokens that equal the answer's / answer tokens.
Range: 0 to 1. Direction: higher is better, except on the forget split.
Traps: common words are right without any memory of the text, so the value of `retrained` is the floor to
compare with, not 0. The end token counts as a token.
"""

from __future__ import annotations

from collections.abc import Sequence


def exact_memorization(argmax_correct: Sequence[int]) -> float:
    """Share of right tokens."""
    return sum(argmax_correct) / len(argmax_correct)
