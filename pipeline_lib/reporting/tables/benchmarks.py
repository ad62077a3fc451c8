"""Standard benchmarks: what is left of general ability."""

from __future__ import annotations

from pipeline_lib.reporting import style
from pipeline_lib.reporting.summary import Summary
from pipeline_lib.reporting.tables.of_metrics import Column, metric_tables

CAPTION = (
    "Standard benchmarks of general ability, zero-shot unless the suite says otherwise (MMLU with five "
    "examples). Accuracy of guessing is 0.25 with four options and 0.5 with two: a small model is near it on "
    "MMLU before any unlearning, and then this benchmark cannot show a loss."
)


def _columns(summary: Summary, task: str, model: str) -> list[Column]:
    """One for each benchmark of the study and what is measured on it."""
    shown = {metric.name for metric in style.in_table("benchmarks")}
    frame = summary.inputs.metrics
    pairs = dict.fromkeys(zip(frame["split"], frame["metric"], strict=True))
    return [(split, metric, _label(split, metric)) for split, metric in pairs if metric in shown]


def _label(split: str, metric: str) -> str:
    name = style.metric_label(metric)
    return name if metric == "truthfulqa_mc2" else f"{style.benchmark_label(split)} {name}"


build = metric_tables(_columns, of_models=True)
