"""Toxicity of continued prompts."""

from __future__ import annotations

from pipeline_lib.reporting import style
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


def _judge(summary: Summary, table: Table) -> list[str]:
    """How well the classifier of this task sees such texts."""
    found = summary.shared(table.task, table.model, TOXICITY, AUC)
    known = found and (
        f"The classifier ranks labelled texts of this kind with an AUC of {found.value:.3f} "
        f"{style.interval(found.low, found.high)} (n = {found.n}; 0.5 is chance)."
    )
    unknown = (
        "How well the classifier tells toxic texts of this kind from harmless ones is not known "
        "(`toxicity.labelled` would let it be measured): its scores may mean nothing here."
    )
    return [known or unknown] if table.lines else []


def _columns(summary: Summary, task: str, model: str) -> list[Column]:
    shown = [metric.name for metric in style.in_table("toxicity")]
    splits = summary.splits_with(task, model, shown[0]) or [TOXICITY]
    further = [split for split in splits if split != TOXICITY]  # prompts of another kind
    names = {s: style.split_label(s.removeprefix(f"{TOXICITY}_")).capitalize() for s in further}
    return [
        (split, part, f"{names.get(split, '')} {style.metric_label(part)}".lstrip())
        for split in splits
        for part in shown
    ]


build = metric_tables(_columns, _judge, of_models=True)
