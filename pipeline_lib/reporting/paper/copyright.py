"""Removing copyrighted text: the paper's table of the book."""

from __future__ import annotations

from pipeline_lib.reporting.paper.rows import Wanted, general_ability, paper_tables, wanted
from pipeline_lib.reporting.summary import Summary
from pipeline_lib.reporting.tables.extraction import prompted_splits

CAPTION = (
    "BLEU and ROUGE-L recall of the continuation of a prompt of so many tokens (or words). Seen: chunks that "
    "were unlearned. Unseen: chunks of the same text that the model learned and that unlearning never saw. "
    "Then utility: perplexity and standard benchmarks. `retrained` never learned the text: its level is the "
    "aim."
)
NAMES = {"forget": "Seen", "unseen": "Unseen"}


def _columns(summary: Summary, task: str, model: str) -> list[Wanted]:
    columns = []
    for split, (name, length) in prompted_splits(summary, task, model).items():
        where = NAMES[name] + (f", {length}" if length else "")
        columns += [
            wanted(split, "bleu", label=f"{where}: BLEU"),
            wanted(split, "rouge_l_recall", label=f"{where}: ROUGE-L"),
            wanted(split, "bleu_as_released", label=f"{where}: BLEU (as released)", optional=True),
        ]
    return [*columns, *general_ability(summary, task, model)]


build = paper_tables(_columns)
