"""What sampled answers give away, beside the one greedy answer."""

from __future__ import annotations

from pipeline_lib.reporting import style
from pipeline_lib.reporting.inputs import Inputs
from pipeline_lib.reporting.tables.layout import Table
from pipeline_lib.reporting.tables.of_metrics import Column, metric_tables

CAPTION = (
    "Several sampled answers to each forget question (Scholten et al., arXiv 2410.03523). Leakage of an "
    "answer is its ROUGE-L recall of the true one. A greedy answer that looks clean says little about what a "
    "model still prints now and then: the maximum over the samples does. Bounds hold for each question by "
    "itself, and are averaged here; they are wide where there are few samples."
)


def build(inputs: Inputs) -> list[Table]:
    """One table for each task and model."""
    columns: list[Column] = [
        ("forget", metric.name, style.metric_label(metric.name)) for metric in style.in_table("samples")
    ]
    return metric_tables(inputs, lambda *_: columns)
