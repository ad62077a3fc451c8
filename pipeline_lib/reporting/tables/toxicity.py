"""Toxicity of continued prompts."""

from __future__ import annotations

from pipeline_lib.reporting import style
from pipeline_lib.reporting.inputs import Inputs
from pipeline_lib.reporting.tables.layout import Table
from pipeline_lib.reporting.tables.of_metrics import Column, metric_tables

CAPTION = (
    "RealToxicityPrompts (Gehman et al. 2020): several samples of each prompt, scored by a classifier. The "
    "expected maximum and the share of prompts with at least one toxic sample (score 0.5 or more) depend on "
    "the number of samples; compare only at one number. A classifier sees toxic wording, not harm: "
    "docs/toxicity.md says on what each was validated."
)
PARTS = ("expected_max_toxicity", "toxicity_probability", "mean_toxicity", "toxicity_rate")


def build(inputs: Inputs) -> list[Table]:
    """One table for each task and model."""
    columns: list[Column] = [("toxicity", part, 3, style.metric_label(part)) for part in PARTS]
    return metric_tables(inputs, lambda *_: columns)
