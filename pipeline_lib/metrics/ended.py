"""Ended: did the greedy answer come to its end token within the limit of new tokens?

Source: this project. Formulas: share of the answers that ended; number of those that the limit cut off.
Range: 0 to 1; 0 to the number of records. Direction: ended answers are better, cut ones worse.
Traps: both depend on the limit of new tokens. Running text has no end, and neither number.
"""

from __future__ import annotations

from pipeline_lib.metrics.definition import INF, Metric

METRICS = [
    Metric(
        name="ended",
        label="Answers that ended",
        short_label="ended",
        higher_is_better=True,
        higher_is_better_on_forget=True,
        range=(0, 1),
        source="this project",
        formula="share of greedy answers that came to their end token within the limit",
        trap="depends on the limit of new tokens",
        family="Signs of collapse",
        tables={"collapse": 50},
        fields=("generation", "generation_ended"),
        compute=lambda row: row["generation_ended"],
        order=64,
    ),
    Metric(
        name="truncated_answers",
        label="Truncated answers (count)",
        higher_is_better=False,
        higher_is_better_on_forget=False,
        range=(0, INF),
        source="this project",
        formula="number of greedy answers cut off at the limit",
        trap="a count: read it against n",
        family="Signs of collapse",
        fields=("generation", "generation_ended"),
        of="split",
        compute=lambda split: split.count([not row["generation_ended"] for row in split.rows]),
        order=120,
    ),
]
