"""Accuracies of standard benchmarks, as lm-evaluation-harness counts them.

Source: lm-evaluation-harness (acc, acc_norm); TruthfulQA (Lin et al. 2022, arXiv 2109.07958) for MC2.
Formulas over questions: share whose right option has the highest summed log-probability; the same divided by
the option's characters; mean of the true answers' share in the probability of all answers.
Range: 0 to 1. Direction: higher is better.
Traps: acc prefers short options; acc and acc_norm are different numbers: say which one a table holds. MMLU
over all is the mean over questions, so that a subject counts by its size. MC2 is no accuracy.
"""

from __future__ import annotations

from dataclasses import replace

from pipeline_lib.metrics.definition import Metric

_ACCURACY = Metric(
    name="benchmark_accuracy",
    label="Accuracy",
    short_label="accuracy",
    higher_is_better=True,
    higher_is_better_on_forget=None,
    range=(0, 1),
    source="lm-evaluation-harness, acc (of written answers exact_match)",
    formula="share of questions whose right option has the highest summed log-probability, or whose written "
    "answer is right",
    trap="prefers short options; MMLU over all is the mean over questions, so large subjects weigh more",
    family="Benchmarks",
    tables={"benchmarks": 10},
    on="benchmarks",
    fields=("correct",),
    compute=lambda row: row["correct"],
    order=600,
    only_with=("benchmarks",),
)
METRICS = [
    _ACCURACY,
    replace(
        _ACCURACY,
        name="benchmark_accuracy_norm",
        label="Accuracy (length-normalised)",
        short_label="accuracy, by length",
        source="lm-evaluation-harness, acc_norm",
        formula="the same with log-probability divided by the option's characters",
        trap="other numbers than acc: say which one a table holds",
        tables={"benchmarks": 20},
        fields=("correct_norm",),
        when=lambda split: split.rows[0]["correct_norm"] is not None,
        compute=lambda row: row["correct_norm"],
        order=601,
    ),
    replace(
        _ACCURACY,
        name="truthfulqa_mc2",
        label="TruthfulQA MC2",
        short_label="",
        source="TruthfulQA, arXiv 2109.07958",
        formula="probability of the true answers / probability of all answers, mean over questions",
        trap="not an accuracy: chance depends on how many true answers a question has",
        tables={"benchmarks": 30},
        fields=("score",),
        compute=lambda row: row["score"],
        order=602,
    ),
]
