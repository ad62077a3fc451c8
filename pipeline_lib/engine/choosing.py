"""The next token of each row: the likeliest, or one that is drawn.

Shapes: B rows, V vocabulary.
"""

from __future__ import annotations

import torch

from pipeline_lib.engine.settings import Sampling

BLOCK = 256
LIKELY = 512  # tokens that top-p looks at first; only a row whose mass goes beyond them is sorted as a whole


def choose(logits: torch.Tensor, sampling: Sampling | None, uniforms: torch.Tensor | None) -> torch.Tensor:
    """The next token of each row, (B, V) fp32 -> (B,): drawn by its random number, or else the likeliest."""
    if sampling is None or uniforms is None:
        return likeliest(logits)
    return draw(logits, uniforms, sampling.temperature, sampling.top_p)


def likeliest(logits: torch.Tensor) -> torch.Tensor:
    """Index of each row's largest number, the first of equal ones: (N, V) without NaN -> (N,).

    On a CPU torch goes through the numbers one by one. Finding the maxima of blocks is several times as fast.
    """
    vocabulary = logits.shape[-1]
    whole = vocabulary // BLOCK * BLOCK
    if logits.device.type != "cpu" or whole == 0:
        return logits.argmax(-1)
    blocks = logits[:, :whole].unflatten(1, (-1, BLOCK))  # (N, V / BLOCK, BLOCK)
    best = blocks.amax(-1).argmax(-1)  # (N,)
    rows = torch.arange(len(logits))
    found = best * BLOCK + blocks[rows, best].argmax(-1)
    if whole < vocabulary:
        largest, place = logits[:, whole:].max(-1)
        found = torch.where(largest > logits[rows, found], whole + place, found)
    return found


def draw(logits: torch.Tensor, uniforms: torch.Tensor, temperature: float, top_p: float) -> torch.Tensor:
    """A token of each row of logits (B, V) fp32, given one random number of [0, 1) each, (B,) fp64.

    It inverts the cumulative distribution in the order of the vocabulary, not of likelihood: rounding then
    moves the borders between tokens as little as the probabilities, and never swaps two tokens.
    """
    p = (logits / temperature).softmax(-1)  # (B, V)
    if top_p < 1:
        p = p.masked_fill(~nucleus(p, top_p), 0.0)
    cumulative = p.double().cumsum(-1)  # (B, V)
    whole = cumulative[:, -1:]
    # below the whole mass after rounding too, so that a token of mass 0 is never reached
    target = torch.minimum(uniforms[:, None] * whole, torch.nextafter(whole, torch.zeros_like(whole)))
    return torch.searchsorted(cumulative, target, right=True)[:, 0]


def nucleus(p: torch.Tensor, top_p: float) -> torch.Tensor:
    """(B, V) bool: the smallest set of most likely tokens of mass >= `top_p`; at least one token a row.

    Among equally likely tokens at the border the choice is torch's, the same for the same row.
    """
    chosen = torch.zeros_like(p, dtype=torch.bool)
    likely, index = p.topk(min(LIKELY, p.shape[1]))  # (B, LIKELY), most likely first
    chosen.scatter_(1, index, _before(likely) < top_p)
    for row in (likely.double().sum(-1) < top_p).nonzero()[:, 0].tolist():
        likely_row, index_row = p[row].sort(descending=True, stable=True)
        chosen[row, index_row] = _before(likely_row) < top_p
    return chosen


def _before(likely: torch.Tensor) -> torch.Tensor:
    """Mass of the tokens before each one."""
    mass = likely.double()
    return mass.cumsum(-1) - mass
