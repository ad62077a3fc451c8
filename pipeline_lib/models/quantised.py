"""Weights rounded to few bits and widened again: what a quantised model computes, on any device.

Only weights are rounded, of the decoder's linear layers, as quantisation for inference does; embeddings, the
output embedding, norms and activations stay. W is (out, in).

int8: whole multiples of max|w| / 127, symmetric, of a row of W or of `group` neighbours in it. By rows these
are the weights of LLM.int8 (Dettmers et al. 2022, arXiv 2208.07339, section 2.1).
int4: 16 even levels from the least weight to the largest of `group` neighbours in a row, moved so that 0 is
one of them: round-to-nearest, the baseline of GPTQ (Frantar et al. 2023, arXiv 2210.17323, section 4).
nf4: blocks of `group` weights in the order of storage, divided by their max|w|; each becomes the nearest of
the 16 values of `NORMAL_FLOAT` (Dettmers et al. 2023, arXiv 2305.14314, section 3 and appendix E). Scales
stay in fp32: no double quantisation.
fp16: the nearest number of half precision, the control: so little rounding moves no metric.

Trap: four bits can lose the answer and the ability to answer together. Read forgetting beside utility, and
what the same rounding does to `retrained`.
"""

from __future__ import annotations

from typing import Literal

import torch

from pipeline_lib.models.reduced import round_rows, widen_rows

Format = Literal["fp16", "int8", "int4", "nf4"]
GROUPS: dict[str, int | None] = {"fp16": None, "int8": None, "int4": 128, "nf4": 64}  # None: a whole row
STEPS = 15  # of int4: one less than its levels
# Quantiles of the standard normal distribution, asymmetric so that 0 is one of them (appendix E).
NORMAL_FLOAT = (
    -1.0,
    -0.6961928009986877,
    -0.5250730514526367,
    -0.39491748809814453,
    -0.28444138169288635,
    -0.18477343022823334,
    -0.09105003625154495,
    0.0,
    0.07958029955625534,
    0.16093020141124725,
    0.24611230194568634,
    0.33791524171829224,
    0.44070982933044434,
    0.5626170039176941,
    0.7229568362236023,
    1.0,
)


def quantised(weight: torch.Tensor, format: Format, group: int | None) -> torch.Tensor:
    """The weights (out, in) that are left, in fp32. `group`: None for a whole row; nf4 needs a number."""
    weight = weight.detach().float()
    if format == "fp16":
        return weight.half().float()
    if format == "nf4":
        assert group is not None
        return _normal_float(weight, group)
    parts = weight.split(group or weight.shape[1], dim=1)
    rounded = [_symmetric(part) if format == "int8" else _even_levels(part) for part in parts]
    return torch.cat(rounded, dim=1)


def _symmetric(part: torch.Tensor) -> torch.Tensor:
    return widen_rows(*round_rows(part))


def _even_levels(part: torch.Tensor) -> torch.Tensor:
    """Each row of (out, group) on levels of its own; a row of zeros stays."""
    low, high = part.amin(1, keepdim=True).clamp(max=0), part.amax(1, keepdim=True).clamp(min=0)
    step = (high - low) / STEPS
    step = torch.where(step > 0, step, torch.ones_like(step))
    zero = (-low / step).round()
    return ((part / step).round().add(zero).clamp(0, STEPS) - zero) * step


def _normal_float(weight: torch.Tensor, block: int) -> torch.Tensor:
    flat = weight.reshape(-1)
    padded = torch.nn.functional.pad(flat, (0, -len(flat) % block)).view(-1, block)
    scale = padded.abs().amax(1, keepdim=True)
    scale = torch.where(scale > 0, scale, torch.ones_like(scale))
    values = torch.tensor(NORMAL_FLOAT, device=weight.device)
    between = (values[1:] + values[:-1]) / 2
    nearest = values[torch.bucketize(padded / scale, between)]
    return (nearest * scale).view(-1)[: len(flat)].view_as(weight)
