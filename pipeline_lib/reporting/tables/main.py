"""The main table: how much is forgotten, and what is left."""

from __future__ import annotations

from pipeline_lib.reporting import style
from pipeline_lib.reporting.inputs import Inputs
from pipeline_lib.reporting.summary import AT_EQUAL_RETAIN, MIX, Summary
from pipeline_lib.reporting.tables.layout import Table
from pipeline_lib.reporting.tables.of_metrics import Column, metric_tables

CAPTION = (
    "`original` is the model before unlearning, `retrained` never saw the forget set: on the forget set the "
    "aim is the level of `retrained`, and less than that is not better. KS D compares the truth ratios of "
    "the forget questions with those of `retrained` (0: the same distribution); forget quality is the log10 "
    "of that test's p-value, averaged over seeds, and depends on the number of questions. At equal "
    "retention: the unlearned model is mixed with `original` until it retains nearly as much; the share of "
    "the unlearning kept says how far from `original` that is (1: it was not mixed). What was forgotten can "
    "then be compared between rows that broke more or less; `original` and `retrained` are not mixed."
)
RETAIN = "retain"  # stands for the retain questions that were asked, see Summary.retain_split
COLUMNS = [
    ("forget", "rouge_l_recall", 3),
    ("forget", "probability", 3),
    ("forget", "extraction_strength", 3),
    ("forget", "truth_ratio", 3),
    ("forget", "forget_quality_log10", 1),
    ("forget", "ks_statistic", 3),
    ("utility", "model_utility", 3),
    (RETAIN, "rouge_l_recall", 3),
]
MATCHED_COLUMNS = [  # where the study asks for them
    ("forget", f"ks_statistic{AT_EQUAL_RETAIN}", 3),
    ("forget", f"probability{AT_EQUAL_RETAIN}", 3),
    ("run", MIX, 3),
]
_OWN_NAME = {"forget_quality_log10", "ks_statistic", "model_utility", f"ks_statistic{AT_EQUAL_RETAIN}", MIX}


def build(inputs: Inputs) -> list[Table]:
    """One table for each task and model."""
    return metric_tables(inputs, _columns)


def _columns(summary: Summary, task: str, model: str) -> list[Column]:
    retain = summary.retain_split(task, model)
    matched = MATCHED_COLUMNS if summary.has(task, model, "run", MIX) else []
    return [
        (retain if split == RETAIN else split, metric, decimals, _label(split, metric))
        for split, metric, decimals in (*COLUMNS, *matched)
    ]


def _label(split: str, metric: str) -> str:
    """The metric's name, after its split unless it has one split only."""
    name = style.metric_label(metric)
    return name if metric in _OWN_NAME else f"{style.split_label(split).capitalize()} {name}"
