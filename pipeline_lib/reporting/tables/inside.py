"""What the layers of a model still know of the forget answers."""

from __future__ import annotations

from pipeline_lib.reporting import style
from pipeline_lib.reporting.summary import Summary
from pipeline_lib.reporting.tables.of_metrics import Column, metric_tables

CAPTION = (
    "Inside the model, over a part of the forget questions. Lens: the largest log-probability of the answer, "
    "nats per token, that a layer before the last shows through the final norm and the output embedding; "
    "above `retrained`'s, a layer still shows it. Depth: the Unlearning Depth Score (arXiv 2605.24614), from "
    "0, where the layers carry the answers as `original`'s do (whose own is 0 by construction), to 1, where "
    "they lack as much as `retrained`'s; a collapsed model scores 1 too. `retrained` has none, as it "
    "would be 1 by construction. Questions that no layer carries have no depth."
)


def _columns(summary: Summary, task: str, model: str) -> list[Column]:
    return [("forget", metric.name, style.metric_label(metric.name)) for metric in style.in_table("inside")]


build = metric_tables(_columns, of_models=True)
