"""The main table: how much is forgotten, and what is left, by the metrics that judge each task."""

from __future__ import annotations

from pipeline_lib.reporting import style
from pipeline_lib.reporting.forgetting import doubts
from pipeline_lib.reporting.headline import Measure, judged_by
from pipeline_lib.reporting.summary import Summary
from pipeline_lib.reporting.tables.layout import Table
from pipeline_lib.reporting.tables.of_metrics import Column, front_notes, metric_tables

CAPTION = (
    "Each task has the columns that judge it, the most telling first. `original` is the model before "
    "unlearning, `retrained` never saw the forget set; `base`, where there is one, is the pretrained model "
    "before any fine-tuning. On the forget set the aim is the level of "
    "`retrained`, and less than that is not better. KS D compares the truth ratios of the forget questions "
    "with those of `retrained` (0: the same distribution), or, where a task has no wrong answers, the "
    "likelihoods of the forget answers; forget quality is the log10 of that test's p-value, averaged over "
    "seeds, and depends on the number of questions. A task may have no `retrained`, where the model learned "
    "the data long before the study: then nothing is held against it. At equal retention: the unlearned "
    "model is moved along the line from `original` through itself until its loss of retain probability is "
    "the suite's bound; the length of the unlearning there is 0 at `original`, 1 at the model as trained and "
    "at most 2. What was forgotten can then be compared between rows that broke more or less; `original`, "
    "`retrained` and `base` are not moved."
)


def _notes(summary: Summary, table: Table) -> list[str]:
    found = doubts(summary, table.task, table.model)
    blind = [f"No row of this table can be said to forget: {'; '.join(found)}."] if found else []
    return [*blind, *front_notes(summary, table.task, table.model)]


def _columns(summary: Summary, task: str, model: str) -> list[Column]:
    headline = judged_by(summary, task, model)
    measures = dict.fromkeys([*headline.forgetting, *headline.utility])
    asked = (Measure(metric.split, metric.name) for metric in style.in_table("main"))  # where the study does
    measures |= dict.fromkeys(m for m in asked if summary.has(task, model, *m))
    return [(*m, m.label) for m in measures]


build = metric_tables(_columns, _notes)
