"""Multiple-choice accuracy: is the true answer the likeliest of the options?

Source: the usual length-normalised form (`acc_norm` in spirit; lm-evaluation-harness divides by characters).
Formula: 1 if the true answer's log-probability per token is above that of every wrong option, else 0.
Range: 0 to 1, chance = 1 / options. Direction: higher is better.
Traps: length-normalised by tokens (end token included), because options differ in length; unnormalised
accuracy prefers short options and differs. A tie counts as wrong, so that a collapsed model that scores all
options alike does not pass.
"""

from __future__ import annotations

from collections.abc import Sequence

from pipeline_lib.metrics.definition import Metric
from pipeline_lib.metrics.rows import answer_of, distractors_of


def chooses_answer(nll: float, tokens: int, wrong_nll: Sequence[float], wrong_tokens: Sequence[int]) -> float:
    """1.0 if the true answer has the lowest NLL per token of all options, else 0.0."""
    if not wrong_nll:
        raise ValueError("multiple choice needs at least one wrong option")
    best_wrong = min(wrong / count for wrong, count in zip(wrong_nll, wrong_tokens, strict=True))
    return float(nll / tokens < best_wrong)


METRICS = [
    Metric(
        name="multiple_choice_accuracy",
        label="Multiple-choice accuracy",
        short_label="Accuracy",
        higher_is_better=True,
        higher_is_better_on_forget=False,
        range=(0, 1),
        source="length-normalised argmax",
        formula="share of questions whose true answer has the lowest NLL per token of all options",
        trap="a tie counts as wrong; chance is 1 / options",
        family="Wording and memorisation",
        when=lambda split: split.multiple_choice,
        of="column",
        compute=lambda split: [
            chooses_answer(*answer_of(row), *distractors_of(row)) for row in split.asked()
        ],
        order=2,
    )
]
