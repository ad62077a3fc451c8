"""Round trips: true answers that the model's tokenizer cannot write.

Source: this project. Formula: number of true answers that encoding and decoding changes.
Range: 0 to the number of records. Direction: lower is better.
Traps: it is about the tokenizer and not about the model; above 0, ROUGE compares with a text that the model
cannot write.
"""

from __future__ import annotations

from pipeline_lib.metrics.definition import INF, Metric

METRICS = [
    Metric(
        name="round_trip_failures",
        label="Round-trip failures (count)",
        higher_is_better=False,
        higher_is_better_on_forget=False,
        range=(0, INF),
        source="this project",
        formula="number of true answers that encoding and decoding changes",
        trap="about the tokenizer, not the model: above 0, ROUGE compares with a text that it cannot write",
        family="Signs of collapse",
        fields=("round_trips",),
        of="split",
        compute=lambda split: split.count([not row["round_trips"] for row in split.rows]),
        order=121,
    )
]
