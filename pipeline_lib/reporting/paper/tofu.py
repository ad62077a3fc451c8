"""Unlearning fictitious authors: the paper's table of TOFU."""

from __future__ import annotations

from pipeline_lib.reporting import style
from pipeline_lib.reporting.paper.rows import Wanted, paper_tables, wanted
from pipeline_lib.reporting.summary import Summary

CAPTION = (
    "Unlearning efficacy on the forget set, then utility on each split that was not to be forgotten. Forget "
    "quality is the log10 of the p-value of the test against `retrained`, averaged over seeds. Accuracy: "
    "share of answers that a sentence encoder finds nearer to the true one than to the wrong ones. Min-20 % "
    "AUC: membership inference against held-out authors, 0.5 is chance. Where the suite asks for it, columns "
    "marked (as released) give what the paper's own code would print, to be laid beside its table: its "
    "forget quality compares forget and retain truth ratios of one model, and its membership test has its "
    "labels in the wrong order (docs/metrics.md)."
)
RELEASED = ("forget_quality_as_released", "accuracy_as_released", "mia_min_k_20_as_released")


def _columns(summary: Summary, task: str, model: str) -> list[Wanted]:
    encoder = "`evaluation.embedder`"
    columns = [
        wanted("forget", "forget_quality_log10", "a `retrained` model and wrong answers"),
        wanted("forget", "answer_accuracy", encoder),
        wanted("forget", "rouge_l_recall"),
        wanted(
            "forget",
            "mia_min_k_20_auc",
            "authors that no model learns: `holdout_authors` of the task",
            style.metric_label("mia_min_k_20_auc"),
        ),
        *(wanted("forget", name, label=style.metric_label(name), optional=True) for name in RELEASED),
    ]
    for split in summary.inputs.manifests[task]["utility"]:
        name = style.split_label(split.removesuffix("_eval")).capitalize()
        columns += [
            wanted(split, "answer_accuracy", encoder, f"{name} accuracy"),
            wanted(split, "rouge_l_recall", label=f"{name} ROUGE-L"),
            wanted(split, "accuracy_as_released", optional=True),
        ]
    return [*columns, wanted("utility", "model_utility")]


build = paper_tables(_columns)
