"""Probability: how likely the model finds the true answer.

Source: TOFU (Maini et al. 2024, arXiv 2401.06121, section 2.2.2).
Formula: P = exp(-nll / tokens), the geometric mean of the answer's token probabilities. For multiple-choice
splits P_true / (P_true + sum of P_wrong), each P length-normalised in the same way.
Range: 0 to 1. Direction: higher is better, except on the forget split.
Traps: the end token is part of the answer, so a model that will not stop scores lower. The normalised form
depends on how many wrong options there are (chance is 1 / options); never compare it with the plain form.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from pipeline_lib.metrics.definition import Metric, at_equal_retain
from pipeline_lib.metrics.rows import answer_of, distractors_of


def probability(nll: float, tokens: int) -> float:
    """Length-normalised probability of a text from its summed negative log-likelihood in nats."""
    return math.exp(-nll / tokens)


def normalised_probability(
    nll: float, tokens: int, wrong_nll: Sequence[float], wrong_tokens: Sequence[int]
) -> float:
    """Share of the true answer in the probability of all options.

    Computed as 1 / (1 + sum of P_wrong / P_true), so that it is right also where every P underflows.
    """
    true = nll / tokens
    odds = 0.0  # sum of P_wrong / P_true
    for wrong, count in zip(wrong_nll, wrong_tokens, strict=True):
        exponent = true - wrong / count
        if exponent > 700:  # exp would overflow: the true answer's share is below 1e-300
            return 0.0
        odds += math.exp(exponent)
    return 1 / (1 + odds)


PROBABILITY = Metric(
    name="probability",
    label="Probability",
    higher_is_better=True,
    higher_is_better_on_forget=False,
    range=(0, 1),
    source="TOFU, arXiv 2401.06121",
    formula="exp(-NLL / tokens); with options P_true / (P_true + sum of P_wrong)",
    trap="the form with options depends on how many there are; never compare it with the plain one",
    family="Likelihood and truth (TOFU)",
    tables={"utility": 10, "preference": 40},
    of="column",
    compute=lambda split: [
        normalised_probability(*answer_of(row), *distractors_of(row))
        if split.multiple_choice
        else probability(*answer_of(row))
        for row in split.asked()
    ],
    order=1,
)
METRICS = [
    PROBABILITY,
    at_equal_retain(PROBABILITY, order=700, also={"kept": 720}, tables={"main": 30}),
]
