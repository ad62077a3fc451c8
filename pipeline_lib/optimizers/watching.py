"""What Sophia's step has in common with Signum's and with AdamW's from the same state.

u is the step that is taken, m the momentum after the step's gradient g, s = sign(m) Signum's step. AdamW's is
a = m / (sqrt(v / (1 - b2^t)) + eps) at step t, with b2 and eps the defaults of `adamw` and v = b2 v +
(1 - b2) g^2 from the first step on, of the clipped gradient as in AdamW itself. Both have Sophia's momentum:
the cosines compare what is made of one average, not two averages. Learning rate and weight decay are left out
of all three; a factor common to all coordinates changes no cosine.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import Any

import torch

from pipeline_lib.optimizers.update import Update, Watch

BETA2, EPS = 0.999, 1e-8  # AdamW's defaults; not read there, or Sophia's runs would depend on its code
STATE = "second_moment"  # v
SUMS = 6


def watch_of(update: Update) -> Watch:
    """What is measured beside an `update` whose first state is the momentum."""
    return Watch(_watched(update), (STATE,), _correction)


def _correction(group: dict[str, Any]) -> tuple[float, ...]:
    return (1 - BETA2 ** (group["watched"] + 1),)


@cache  # one function an update: it is compiled once
def _watched(update: Update) -> Update:
    def watched(theta, gradient, momentum, curvature, second_moment, *coefficients):
        *own, correction = coefficients
        moved, momentum = torch.zeros_like(theta), momentum.clone()
        update(moved, gradient, momentum, curvature.clone(), *own)  # from 0, decay moves nothing: -lr u
        second_moment.lerp_(gradient.square(), 1 - BETA2)
        adamw = momentum / ((second_moment / correction).sqrt() + EPS)
        moves, stays = moved.abs(), momentum == 0
        # u, s and a have the sign of m in every coordinate, so that products are those of absolute values.
        return moves.square(), moves, ~stays, moves * adamw.abs(), adamw.abs(), adamw.square()

    return watched


def cosines(sums: Sequence[float], sign: bool) -> dict[str, float]:
    """Facts of a step from the `SUMS` sums over all coordinates; none where nothing moves.

    `sign`: the step taken is that of the signs alone, in place of the one that was measured.
    """
    squares, lengths, signs, products, along_signs, adamw = sums
    if not (squares and adamw):
        return {}
    if sign:
        squares = lengths = signs
        products = along_signs
    return {  # rounding must not lift a cosine above 1
        "cosine_signum": min(lengths / math.sqrt(squares * signs), 1.0),
        "cosine_adamw": min(products / math.sqrt(squares * adamw), 1.0),
    }
