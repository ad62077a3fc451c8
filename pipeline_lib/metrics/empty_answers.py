"""Empty answers: does the model say anything at all?

Source: this project. Formula: share of greedy answers without a single word (words.py).
Range: 0 to 1. Direction: lower is better, except on the forget split, where neither is.
Traps: an empty answer has ROUGE 0, repetition 0 and no unknown word, so that it looks like forgetting.
"""

from __future__ import annotations

from pipeline_lib.metrics.definition import Metric
from pipeline_lib.metrics.words import words

METRICS = [
    Metric(
        name="empty_answers",
        label="Empty answers",
        short_label="empty answers",
        higher_is_better=False,
        higher_is_better_on_forget=None,
        range=(0, 1),
        source="this project",
        formula="share of answers without a single word",
        trap="an empty answer has ROUGE 0, repetition 0 and no unknown word: it looks like forgetting",
        family="Signs of collapse",
        tables={"collapse": 40, "preference": 50},
        fields=("generation",),
        compute=lambda row: not words(row["generation"]),
        order=63,
    )
]
