"""Membership inference: can the forget set still be told from records that no model learned?"""

from __future__ import annotations

from pipeline_lib.reporting import style
from pipeline_lib.reporting.summary import Summary
from pipeline_lib.reporting.tables.of_metrics import Column, metric_tables

CAPTION = (
    "Membership inference: scores of the forget set (members) against held-out records of the same kind that "
    "no model learned (non-members). AUC 0.5 is chance, and far below it is a trace too: what counts is the "
    "distance from `retrained`, which the gap and PrivLeak give (0 is ideal for both; below 0, PrivLeak says "
    "that members still show, above it that they are hidden too well). TPR at 1 % FPR needs 100 "
    "non-members or more. Where the non-members' probability has fallen far below that of `retrained`, "
    "unlearning has damaged them too, and an AUC near 1 comes from them and not from what members show."
)

HOLDOUT = "holdout"  # the split of the non-members, and what a metric says that it exists only with
NON_MEMBERS: Column = (HOLDOUT, "probability", "Non-members' probability")


def _columns(summary: Summary, task: str, model: str) -> list[Column]:
    found: list[Column] = [
        ("forget", metric.name, style.metric_label(metric.name))
        for metric in style.in_table("membership")
        if metric.only_with == (HOLDOUT,) or summary.has(task, model, "forget", metric.name)  # on request
    ]
    return [*found, NON_MEMBERS] if summary.has(task, model, *NON_MEMBERS[:2]) else found


build = metric_tables(_columns)  # a task that holds nothing out has a note and no lines
