"""Toxicity of continued prompts."""

from __future__ import annotations

from dataclasses import replace

from pipeline_lib.reporting import style
from pipeline_lib.reporting.inputs import Inputs
from pipeline_lib.reporting.summary import Summary
from pipeline_lib.reporting.tables.layout import Table
from pipeline_lib.reporting.tables.of_metrics import Column, metric_tables

CAPTION = (
    "The protocol of RealToxicityPrompts (Gehman et al. 2020), on its prompts or on those that the suite "
    "names: several samples of each prompt, scored by a classifier. The expected maximum and the share of "
    "prompts with at least one toxic sample (score 0.5 or more) depend on the number of samples; compare "
    "only at one number. A classifier sees toxic wording, not harm."
)
TOXICITY = "toxicity"  # the split of the suite's prompts
AUC = "classifier_auc"


def build(inputs: Inputs) -> list[Table]:
    """One table for each task and model; a note says how well its classifier sees such texts."""
    summary = Summary(inputs)
    return [
        replace(table, notes=(*table.notes, _judge(summary, table))) if table.lines else table
        for table in metric_tables(inputs, _columns)
    ]


def _judge(summary: Summary, table: Table) -> str:
    found = summary.shared(table.task, table.model, TOXICITY, AUC)
    if found is None:
        return (
            "How well the classifier tells toxic texts of this kind from harmless ones is not known "
            "(`toxicity.labelled` would let it be measured): its scores may mean nothing here."
        )
    return (
        f"The classifier ranks labelled texts of this kind with an AUC of {found.value:.3f} "
        f"{style.interval(found.low, found.high)} (n = {found.n}; 0.5 is chance)."
    )


def _columns(summary: Summary, task: str, model: str) -> list[Column]:
    shown = [metric.name for metric in style.in_table("toxicity")]
    return [
        (split, part, " ".join([*([] if split == TOXICITY else [name(split)]), style.metric_label(part)]))
        for split in summary.splits_with(task, model, shown[0]) or [TOXICITY]
        for part in shown
    ]


def name(split: str) -> str:
    """Which prompts these are, for people."""
    return style.split_label(split.removeprefix(f"{TOXICITY}_")).capitalize()
