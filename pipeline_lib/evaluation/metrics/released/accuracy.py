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


def most_similar_or_tied(similarity: Sequence[float]) -> float:
    """1.0 if the first similarity (the true answer's) is the largest or shares that place."""
    if len(similarity) < 2:
        raise ValueError("needs the similarity of the true answer and of at least one wrong one")
    return float(similarity[0] == max(similarity))


def contains_answer(generation: str, answer: str) -> float:
    """1.0 if `answer` is part of `generation`, case ignored."""
    return float(answer.lower() in generation.lower())
