"""Fluency: does the model still answer, in words of its task, without saying them over and over?

Source: this project; the signs of collapse (refusal.py, repetition.py, unknown_words.py) as one number, so
that utility can count them.
Formula: 0 for a refusal and for an answer without words, else (1 - seq-rep-4) (1 - share of unknown words).
Range: 0 to 1. Direction: higher is better, except on the forget split, where neither is.
Needs: as refusals and unknown words: questions and answers in English.
Traps: read it against `original`: a model that knows more than the records uses words that they lack. A wrong
answer in the task's words is fluent.
"""

from __future__ import annotations

from collections.abc import Collection

from pipeline_lib.data.refusals import refusals
from pipeline_lib.metrics.definition import Metric
from pipeline_lib.metrics.needs import ENGLISH, LATIN_LETTERS, SPACED_WORDS
from pipeline_lib.metrics.refusal import is_refusal
from pipeline_lib.metrics.repetition import seq_rep
from pipeline_lib.metrics.unknown_words import unknown_share
from pipeline_lib.metrics.words import words


def fluency(generation: str, vocabulary: Collection[str], taught: Collection[str] = ()) -> float:
    """Of one greedy answer; `vocabulary` in the form of words.py, `taught` as in `is_refusal`."""
    said = words(generation)
    if not said or is_refusal(generation, taught):
        return 0.0
    return (1 - seq_rep(said, 4)) * (1 - unknown_share(said, vocabulary))


METRICS = [
    Metric(
        name="fluency",
        label="Fluency",
        short_label="fluency",
        higher_is_better=True,
        higher_is_better_on_forget=None,
        range=(0, 1),
        source="this project",
        formula="0 for refusals and empty answers, else (1 - repetition) (1 - share of unknown words)",
        trap="a wrong answer in the task's words is fluent; read it against `original`",
        family="Signs of collapse",
        needs=(ENGLISH, LATIN_LETTERS, SPACED_WORDS),
        fields=("generation",),
        of="column",
        compute=lambda split: [
            fluency(row["generation"], split.vocabulary, refusals()) for row in split.rows
        ],
        order=65,
    )
]
