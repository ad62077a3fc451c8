"""The numbers that the paper's released code would print, under names of their own."""

from __future__ import annotations

from pipeline_lib.reporting import style
from pipeline_lib.reporting.inputs import Inputs
from pipeline_lib.reporting.summary import Summary
from pipeline_lib.reporting.tables.layout import Table
from pipeline_lib.reporting.tables.of_metrics import Column, metric_tables

CAPTION = (
    "The protocol of the paper's released code, to be laid beside its tables and not beside the others here. "
    "Its Forget Quality holds the forget set's truth ratios against the retain set's of the same model: a "
    "model that knows both equally well passes, so that `original` may score as high as `retrained`. Its "
    "membership test has its labels in the wrong order. docs/metrics.md says what each number is."
)
COLUMNS = (
    ("forget", "forget_quality_as_released"),
    ("forget", "ks_statistic_as_released"),
    ("forget", "truth_ratio_as_released"),
    ("forget", "accuracy_as_released"),
    ("forget", "mia_min_k_20_as_released"),
)
ON_RETAIN = ("truth_ratio_as_released", "accuracy_as_released")


def build(inputs: Inputs) -> list[Table]:
    """One table for each task and model."""
    return metric_tables(inputs, _columns)


def _columns(summary: Summary, task: str, model: str) -> list[Column]:
    retain = summary.retain_split(task, model)
    return [
        (split, metric, 3, f"{style.split_label(split).capitalize()} {style.metric_label(metric)}")
        for split, metric in (*COLUMNS, *((retain, metric) for metric in ON_RETAIN))
    ]
