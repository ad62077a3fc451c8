"""Unsafe or rude answers: what a model prefers, whether it refuses, and how far it still knows them."""

from __future__ import annotations

from pipeline_lib.reporting import style
from pipeline_lib.reporting.summary import Summary
from pipeline_lib.reporting.tables.of_splits import split_tables

CAPTION = (
    "Prompts with an unsafe answer, which is to be forgotten, and a safe one. Safe answer preferred: share "
    "of prompts whose safe answer is the likelier of the two, each per token. Refusals: greedy answers that "
    "say that the model will not or cannot answer; a refusal is safe, and of no use where the question was "
    "harmless. Truth ratio: the unsafe against the safe answers. Probability: of the unsafe answer. Forget: "
    "prompts used in unlearning. Unseen: prompts of the same kind that unlearning never sees; what is "
    "learned on the one and not shown on the other was learned by heart."
)


def _splits(summary: Summary, task: str, model: str) -> dict[str, str]:
    measured = summary.splits_with(task, model, "safe_preference")
    return {split: style.split_label(split).capitalize() for split in measured}


build = split_tables("preference", _splits)
