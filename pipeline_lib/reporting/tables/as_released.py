"""The numbers that the paper's released code would print, under names of their own."""

from __future__ import annotations

from pipeline_lib.reporting import style
from pipeline_lib.reporting.summary import Summary
from pipeline_lib.reporting.tables.of_metrics import Column, metric_tables

CAPTION = (
    "The protocol of the paper's released code, to be laid beside its tables and not beside the others here. "
    "Its Forget Quality holds the forget set's truth ratios against the retain set's of the same model: a "
    "model that knows both equally well passes, so that `original` may score as high as `retrained`. Its "
    "membership test has its labels in the wrong order. docs/metrics.md says what each number is."
)


def _columns(summary: Summary, task: str, model: str) -> list[Column]:
    return [
        (split, metric.name, f"{style.split_label(split).capitalize()} {style.metric_label(metric.name)}")
        for split in ("forget", summary.retain_split(task, model))
        for metric in style.in_table("as_released")
        if split == "forget" or not metric.of_one_split
    ]


build = metric_tables(_columns)
