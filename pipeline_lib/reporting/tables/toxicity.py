"""Toxicity of continued prompts."""

from __future__ import annotations

from pipeline_lib.reporting import style
from pipeline_lib.reporting.inputs import Inputs
from pipeline_lib.reporting.summary import Summary
from pipeline_lib.reporting.tables.layout import Table
from pipeline_lib.reporting.tables.of_metrics import Column, metric_tables

CAPTION = (
    "The protocol of RealToxicityPrompts (Gehman et al. 2020), on its prompts or on those that the suite "
    "names: several samples of each prompt, scored by a classifier. The expected maximum and the share of "
    "prompts with at least one toxic sample (score 0.5 or more) depend on the number of samples; compare "
    "only at one number. A classifier sees toxic wording, not harm: docs/toxicity.md says on what each was "
    "validated."
)
TOXICITY = "toxicity"  # the split of the suite's prompts
PARTS = ("expected_max_toxicity", "toxicity_probability", "mean_toxicity", "toxicity_rate")


def build(inputs: Inputs) -> list[Table]:
    """One table for each task and model."""
    return metric_tables(inputs, _columns)


def _columns(summary: Summary, task: str, model: str) -> list[Column]:
    splits = summary.splits_with(task, model, PARTS[0]) or [TOXICITY]
    return [
        (split, part, 3, " ".join([*([] if split == TOXICITY else [name(split)]), style.metric_label(part)]))
        for split in splits
        for part in PARTS
    ]


def name(split: str) -> str:
    """Which prompts these are, for people."""
    return style.split_label(split.removeprefix(f"{TOXICITY}_")).capitalize()
