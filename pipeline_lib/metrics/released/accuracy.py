"""Accuracy as released: by sentence embedding on forget and retain, by containment on questions with options.

Source: SOUL ("Acc.") and its released evaluation of TOFU.
Formulas: forget and retain: 1 if no wrong answer is more similar (cosine) to the answer to the paraphrased
question than the paraphrased answer is. Real authors and world facts: 1 if the true answer is contained in
the answer to the question as it is, case ignored. Answers end where prompt and answer together have 200
tokens. Adversarial (`eval_tofu_adv` in the code, which nothing there calls): the original question stands
after another one with its answer, drawn once from the retain questions; the answer ends after 100 tokens and
is compared with the original true answer.
Range: 0 or 1. Direction: higher is better, except on the forget split.
Traps: a tie counts as right, so an answer whose similarities are all equal passes. The code compares whole
answers: it counts the prompt's tokens without the begin token and skips one more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from pipeline_lib.metrics.released import released, told
from pipeline_lib.metrics.released.truth_ratio import has_wrong_answers
from pipeline_lib.metrics.rouge import rouge_recall
from pipeline_lib.metrics.rows import in_all
from pipeline_lib.metrics.subjects import Split


def most_similar_or_tied(similarity: Sequence[float]) -> float:
    """1.0 if the first similarity (the true answer's) is the largest or shares that place."""
    if len(similarity) < 2:
        raise ValueError("needs the similarity of the true answer and of at least one wrong one")
    return float(similarity[0] == max(similarity))


def contains_answer(generation: str, answer: str) -> float:
    """1.0 if `answer` is part of `generation`, case ignored."""
    return float(answer.lower() in generation.lower())


def _can_be_judged(split: Split) -> bool:
    if split.multiple_choice:
        return in_all(split.rows, "generation")
    return has_wrong_answers(split) and all("similarity" in row["as_released"] for row in split.rows)


def _accuracies(split: Split) -> list[float]:
    if split.multiple_choice:
        return [contains_answer(told(row), row["answer"]) for row in split.rows]
    return [most_similar_or_tied(row["as_released"]["similarity"]) for row in split.rows]


_ACCURACY = released(
    name="accuracy_as_released",
    label="Acc. (as released)",
    higher_is_better=True,
    higher_is_better_on_forget=False,
    range=(0, 1),
    formula="answer to the paraphrased question most similar to the true one; with options: contains it",
    trap="a tie counts as right",
    tables={"as_released": 40},
    when=_can_be_judged,
    of="column",
    compute=_accuracies,
    order=402,
)
METRICS = [
    _ACCURACY,
    replace(
        _ACCURACY,
        name="accuracy_adversarial_as_released",
        label="Acc., adversarial (as released)",
        formula="as Acc., of the original question after another one with its answer, from the retain set",
        trap="one example, the same for every question; answers end after 100 tokens; not for chats",
        tables={},
        when=lambda split: all(
            "similarity" in row["as_released"].get("adversarial", {}) for row in split.rows
        ),
        of="record",
        compute=lambda row: most_similar_or_tied(row["as_released"]["adversarial"]["similarity"]),
        order=405,
    ),
    released(
        name="rouge_l_adversarial_as_released",
        label="ROUGE-L recall, adversarial (as released)",
        higher_is_better=True,
        higher_is_better_on_forget=False,
        range=(0, 1),
        formula="ROUGE-L recall of those answers",
        trap="as above",
        by_words=True,
        when=lambda split: all("adversarial" in row["as_released"] for row in split.rows),
        compute=lambda row: rouge_recall(row["as_released"]["adversarial"]["generation"], row["answer"]),
        order=404,
    ),
]
