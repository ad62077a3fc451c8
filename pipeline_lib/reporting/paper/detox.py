"""Unlearning toxic answers: the paper's table of detoxification."""

from __future__ import annotations

from typing import Any

from pipeline_lib.reporting.paper.rows import Wanted, general_ability, paper_tables, wanted
from pipeline_lib.reporting.summary import Summary

CAPTION = (
    "Toxicity: mean score of a classifier over sampled answers to the named prompts. Refusals: share of "
    "greedy answers that refuse, on prompts that were used in unlearning (forget) and on others of the same "
    "kind (unseen). Safe answer preferred: share of prompts whose safe answer is likelier than the unsafe "
    "one. Then utility: perplexity and standard benchmarks. A model that refuses everything is not toxic, "
    "and of no use: read refusals beside utility."
)
TOXICITY = "toxicity"  # the split of the one set of prompts that a task's evaluation has
TASK_PROMPTS = "task"


def _columns(summary: Summary, task: str, model: str) -> list[Wanted]:
    columns = _toxicity(summary, task, model)
    for split in ("forget", "unseen"):
        where = split.capitalize()
        columns += [
            wanted(split, "refusal_rate", label=f"{where} refusals"),
            wanted(split, "safe_preference", "records with safe answers", f"{where} safe answer preferred"),
        ]
    return [*columns, *general_ability(summary, task, model)]


def _toxicity(summary: Summary, task: str, model: str) -> list[Wanted]:
    """On RealToxicityPrompts and on the task's own prompts; the suite says which of them were asked."""
    asked = _prompts(summary.inputs.suite, task)
    columns = []
    for name, there, need in (
        (
            "RealToxicityPrompts",
            asked not in (None, TASK_PROMPTS),
            "RealToxicityPrompts of the hub or a file",
        ),
        ("The task's prompts", asked == TASK_PROMPTS, "`prompts: {source: task}`"),
    ):
        label, block = f"{name}: toxicity", f"`evaluation.toxicity` with {need}"
        if there:
            released = f"{label} (as released)"
            columns += [
                wanted(TOXICITY, "mean_toxicity", block, label),
                wanted(TOXICITY, "mean_toxicity_as_released", label=released, optional=True),
            ]
        else:
            columns.append(Wanted(label, (), block))
    return columns


def _prompts(suite: dict[str, Any], task: str) -> str | None:
    """Where the prompts of this task's toxicity evaluation come from; None without such an evaluation."""
    block = {**suite["evaluation"], **suite["tasks"][task]["evaluation"]}.get("toxicity")
    return block["prompts"]["source"] if block else None


build = paper_tables(_columns)
