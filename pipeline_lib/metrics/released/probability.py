"""Probability as released: without the end token.

Source: SOUL's released evaluation of TOFU.
Formula: exp(-mean NLL of the answer's tokens), the end token left out; an answer that is nothing else keeps
it. The code counts the prompt's tokens without the begin token, so the last of them is scored with the
answer; rows hold it in `as_released` where the tokenizer has a begin token.
Range: 0 to 1. Direction: higher is better, except on the forget split.
Traps: the code's answer marker ("### Answer: ") is part of the answer; it is here where it is the prompt's
`answer_prefix`; elsewhere this number lies below the code's. Without the end token a model that will not stop
looks as good as one that does. Questions with options have the plain form too, where TOFU takes the share
among the options.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from pipeline_lib.metrics.released import released


def released_probability(token_nll: Sequence[float]) -> float:
    """Probability from the NLL (T,) of the scored tokens in nats, of which the last is the end token."""
    kept = token_nll[:-1] or token_nll
    return math.exp(-math.fsum(kept) / len(kept))


METRICS = [
    released(
        name="probability_as_released",
        label="Probability (as released)",
        higher_is_better=True,
        higher_is_better_on_forget=False,
        range=(0, 1),
        formula="exp(-NLL / tokens) of the answer without its end token",
        trap="the prompt's last token counts too, after a begin token; so does a marker in `answer_prefix`",
        compute=lambda row: released_probability(
            row["as_released"].get("answer_token_nll", row["token_nll"])
        ),
        order=400,
    )
]
