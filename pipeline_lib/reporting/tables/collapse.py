"""Forgetting or collapse: what the model's own answers look like."""

from __future__ import annotations

from pipeline_lib.reporting import style
from pipeline_lib.reporting.summary import Summary
from pipeline_lib.reporting.tables.of_metrics import Column, metric_tables

CAPTION = (
    "What the greedy answers look like. A model that prints one word over and over has a low ROUGE-L and has "
    "forgotten nothing in particular: read low forget scores together with this table, and with the same "
    "columns of the retain set. Repetition: share of four-word sequences that occurred before in the answer. "
    "Unknown words: share of words that stand in no question or answer of the task. Refusals: answers that "
    "say they do not know. Ended: answers that stopped by themselves within the limit."
)


def _columns(summary: Summary, task: str, model: str) -> list[Column]:
    return [
        (split, metric.name, f"{style.split_label(split).capitalize()} {style.metric_label(metric.name)}")
        for split in ("forget", summary.retain_split(task, model))
        for metric in style.in_table("collapse")
    ]


build = metric_tables(_columns)
