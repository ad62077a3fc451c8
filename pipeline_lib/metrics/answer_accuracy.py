"""Answer accuracy: does the greedy answer mean the true answer rather than one of the wrong ones?

Source: SOUL (arXiv 2404.18239), its Acc. on TOFU, by cosine similarity of sentence embeddings.
Formula: 1 if the answer is more similar to the true answer than to every wrong answer, else 0.
Range: 0 or 1; the mean is an accuracy. Direction: higher is better, except on the forget split.
Traps: a tie is wrong here, so that an empty or constant answer does not pass; the paper's code counts it as
right (released/accuracy.py). The embedder decides: compare numbers of one embedder only; a record whose
answers are all alike to it (a language that it does not know) is not measured. Wrong answers that
say almost the same as the true one make it a matter of chance.
"""

from __future__ import annotations

from collections.abc import Sequence

from pipeline_lib.metrics.definition import Metric
from pipeline_lib.metrics.needs import TOLD_APART, WRONG_ANSWERS
from pipeline_lib.metrics.rows import in_all


def most_similar(similarity: Sequence[float]) -> float:
    """1.0 if the first similarity (the true answer's) is above every other one, else 0.0."""
    true, *wrong = similarity
    if not wrong:
        raise ValueError("needs the similarity of the true answer and of at least one wrong one")
    return float(true > max(wrong))


METRICS = [
    Metric(
        name="answer_accuracy",
        label="Answer accuracy (sentence embedding)",
        short_label="accuracy",
        higher_is_better=True,
        higher_is_better_on_forget=False,
        range=(0, 1),
        source="SOUL, arXiv 2404.18239 (its Acc.)",
        formula="share of greedy answers more similar to the true answer than to every wrong one",
        trap="depends on the embedder; a tie counts as wrong, in the paper's code as right",
        family="Wording and memorisation",
        needs=(WRONG_ANSWERS, TOLD_APART),
        when=lambda split: WRONG_ANSWERS.holds(split.rows) and in_all(split.rows, "similarity"),
        compute=lambda row: most_similar(row["similarity"]),
        order=70,
        only_with=("embedder",),
    )
]
