"""Truth ratio as released: wrong over true, arithmetic, averaged raw.

Source: SOUL's released evaluation of TOFU.
Formula: mean of P(wrong) over the wrong answers, divided by P(paraphrase) + 1e-12; P = exp(-NLL / tokens).
Forget and retain questions are asked in their paraphrased wording, the others as they are. The mean over rows
is taken of the ratio itself, without min or max.
Range: 0 to 1e12. Direction: lower is better (the true answer is preferred); on forget higher.
Traps: 1 / R of the arithmetic truth ratio, so "higher" has the opposite meaning; unbounded, so that a few
rows decide the mean. The code's P has no end token and counts one token of the prompt (see probability.py),
and so do the numbers in `as_released`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

EPSILON = 1e-12


def released_truth_ratio(
    paraphrase_nll: float, paraphrase_tokens: int, wrong_nll: Sequence[float], wrong_tokens: Sequence[int]
) -> float:
    """Ratio of one row from summed NLLs in nats."""
    if not wrong_nll:
        raise ValueError("a truth ratio needs at least one wrong answer")
    wrong = [math.exp(-nll / tokens) for nll, tokens in zip(wrong_nll, wrong_tokens, strict=True)]
    return sum(wrong) / len(wrong) / (math.exp(-paraphrase_nll / paraphrase_tokens) + EPSILON)
