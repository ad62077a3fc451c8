"""How much of a text a model still recites: continuations of the learned texts, by length of the prompt."""

from __future__ import annotations

import re

from pipeline_lib.reporting import style
from pipeline_lib.reporting.summary import Summary
from pipeline_lib.reporting.tables.of_splits import split_tables

CAPTION = (
    "What a model says after the beginning of a text that it learned. BLEU and ROUGE-L hold the greedy "
    "continuation against the true one; the longest match is the longest run of words that both have in "
    "common; the extraction rate is the share of texts of which it recites at least a stated number of words "
    "(docs/metrics.md). Forget: the texts to be unlearned. Unseen: texts of the same source that the model "
    "learned and that unlearning never sees, so that unlearning can be seen to spread, or not. Even a model "
    "that never saw a text shares some words with it: `retrained` gives the level."
)


def _splits(summary: Summary, task: str, model: str) -> dict[str, str]:
    if not summary.splits_with(task, model, "extraction_rate"):
        return {}
    found = prompted_splits(summary, task, model)
    return {
        split: style.split_label(name).capitalize() + (f", prompts of {length}" if length else "")
        for split, (name, length) in found.items()
    }


def prompted_splits(summary: Summary, task: str, model: str) -> dict[str, tuple[str, str]]:
    """Split -> (`forget` or `unseen`, length of its prompts in words, empty where unknown), forget first.

    A split `forget_300` holds the texts of `forget` with prompts of 300 tokens; the plain name has the first
    length of the task's settings. Lengths are in the tokens of the named tokenizer, or else in words.
    """
    settings = summary.inputs.manifests.get(task, {}).get("settings", {})
    unit = "tokens" if settings.get("tokenizer") else "words"
    first = next(iter(settings.get("prompt_tokens", ())), None)
    measured = summary.splits_with(task, model, "bleu")
    found: dict[str, tuple[str, str]] = {}
    for name in ("forget", "unseen"):
        for split in measured:
            more = re.fullmatch(rf"{name}_(\d+)", split)
            if split == name or more:
                length = int(more[1]) if more else first
                found[split] = (name, f"{length} {unit}" if length else "")
    return found


build = split_tables("extraction", _splits)  # rows come once for each prompt length
