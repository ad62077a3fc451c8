"""Model utility taken apart: the numbers whose harmonic mean it is; or what else judges a task's utility."""

from __future__ import annotations

from pipeline_lib.core.errors import UserError
from pipeline_lib.reporting import style
from pipeline_lib.reporting.headline import Measure, judged_by
from pipeline_lib.reporting.summary import Summary
from pipeline_lib.reporting.tables.of_metrics import Column, metric_tables

CAPTION = (
    "The parts of model utility, which is their harmonic mean (in each seed): Probability, ROUGE-L recall "
    "and truth ratio of each split that was not to be forgotten. One part near 0 pulls the whole to 0. A "
    "task whose records have no wrong answers has no model utility: then what judges it instead."
)


def _columns(summary: Summary, task: str, model: str) -> list[Column]:
    """The task's manifest says which splits count."""
    if (splits := summary.inputs.manifests.get(task, {}).get("utility")) is None:
        raise UserError(
            f"the table utility needs data/{task}/manifest.json with `utility`: the splits in model utility"
        )
    if not splits:
        return [(*measure, measure.label) for measure in judged_by(summary, task, model).utility]
    parts = [Measure(split, metric.name) for split in splits for metric in style.in_table("utility")]
    return [(*part, part.label) for part in (Measure("utility", "model_utility"), *parts)]


build = metric_tables(_columns)
