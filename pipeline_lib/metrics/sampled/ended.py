"""Samples that ended: did the sampled answers come to their end token within the limit of new tokens?

Source: this project. Formula: share of a question's samples that ended, averaged over questions.
Range: 0 to 1. Direction: higher is better. Trap: it depends on the limit of new tokens.
"""

from __future__ import annotations

from pipeline_lib.metrics.sampled import number_of_samples, sampled

METRICS = [
    sampled(
        name="samples_ended",
        label="Samples that ended",
        higher_is_better=True,
        higher_is_better_on_forget=True,
        range=(0, 1),
        source="this project",
        formula="share of samples that came to their end token within the limit",
        trap="depends on the limit of new tokens",
        tables={"samples": 70},
        compute=lambda split: [
            sum(row["samples_ended"]) / split.once(number_of_samples) for row in split.rows
        ],
        order=87,
    )
]
