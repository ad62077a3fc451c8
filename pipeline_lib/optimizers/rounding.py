"""bf16 weights that move right in the mean: stochastic rounding."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from pipeline_lib.errors import UserError
from pipeline_lib.optimizers.on_copies import Groups, OnCopies


def stochastic_round(values: torch.Tensor) -> torch.Tensor:
    """fp32 values rounded to one of their two bf16 neighbours, up with the probability that keeps the mean.

    bf16 is the upper half of fp32: a uniform number below 2^16 added to the bits carries into that half
    exactly as often as the lower half says. Values that bf16 can represent stay. Random numbers come
    from torch's global generator of the device.
    """
    noise = torch.randint(1 << 16, values.shape, dtype=torch.int32, device=values.device)
    bits = noise.add_(values.contiguous().view(torch.int32)).bitwise_and_(-1 << 16)
    rounded = torch.where(values.isfinite(), bits.view(torch.float32), values)
    return rounded.bfloat16()


class StochasticRounding(OnCopies):
    """Any optimiser over bf16 parameters, its arithmetic and states in fp32, its result rounded at random.

    A step of an optimiser on bf16 weights themselves is rounded to the nearest of them: a step shorter
    than half their spacing (|w| / 256 to |w| / 128) is lost, every time. Here it is taken with the
    probability step / spacing. Between steps the bf16 weights are all there is: the fp32 copies are
    working memory, filled from them anew.
    """

    def __init__(self, params: Groups, make_inner: Callable[[list[dict[str, Any]]], torch.optim.Optimizer]):
        for parameter in (parameter for group in params for parameter in group["params"]):
            if parameter.dtype != torch.bfloat16:
                raise UserError(
                    f"stochastic rounding is for bf16 weights, found {parameter.dtype}; "
                    "use the optimiser without it"
                )
        super().__init__(params, make_inner)

    def _copy(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor.float()

    def _back(self, copy: torch.Tensor) -> torch.Tensor:
        return stochastic_round(copy)
