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

from pipeline_lib.metrics.definition import INF
from pipeline_lib.metrics.released import released
from pipeline_lib.metrics.rows import Row
from pipeline_lib.metrics.subjects import Split

EPSILON = 1e-12


def released_truth_ratio(
    paraphrase_nll: float, paraphrase_tokens: int, wrong_nll: Sequence[float], wrong_tokens: Sequence[int]
) -> float:
    """Ratio of one row from summed NLLs in nats."""
    if not wrong_nll:
        raise ValueError("a truth ratio needs at least one wrong answer")
    wrong = [math.exp(-nll / tokens) for nll, tokens in zip(wrong_nll, wrong_tokens, strict=True)]
    return sum(wrong) / len(wrong) / (math.exp(-paraphrase_nll / paraphrase_tokens) + EPSILON)


def _ratio(row: Row) -> float:
    asked = row["as_released"]
    return released_truth_ratio(
        asked["paraphrase_nll"],
        asked["paraphrase_tokens"],
        asked["distractor_nll"],
        asked["distractor_tokens"],
    )


def has_wrong_answers(split: Split) -> bool:
    """Whether every record has wrong answers under this protocol."""
    return all(row["as_released"]["distractor_nll"] for row in split.rows)


METRICS = [
    released(
        name="truth_ratio_as_released",
        label="Truth ratio (as released)",
        short_label="truth ratio (as released)",
        higher_is_better=False,
        higher_is_better_on_forget=True,
        range=(0, INF),
        formula="mean of [arithmetic mean of P(wrong)] / (P(paraphrase) + 1e-12), paraphrased question",
        trap="upside down against R, unbounded: a few questions decide the mean",
        tables={"as_released": 30},
        decimals=3,
        when=has_wrong_answers,
        compute=_ratio,
        order=401,
    )
]
