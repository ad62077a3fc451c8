"""Stochastic rounding: bf16 weights that move correctly in the mean."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch

from pipeline_lib.core.errors import UserError
from pipeline_lib.optimizers.elementwise import ElementwiseOptimizer
from pipeline_lib.optimizers.on_copies import Groups, OnCopies, Pair

BLOCK = 1 << 26  # elements that have copies at a time: 256 MiB of weights, as much of gradients


def stochastic_round(values: torch.Tensor) -> torch.Tensor:
    """fp32 values rounded to one of their two bf16 neighbours, up with the probability that keeps the mean.

    bf16 is the upper half of fp32: a uniform number below 2^16 added to the bits carries into that half
    exactly as often as the lower half says. Values that bf16 can represent do not change. Random numbers come
    from torch's global generator of the device.
    """
    noise = torch.randint(1 << 16, values.shape, dtype=torch.int32, device=values.device)
    bits = noise.add_(values.contiguous().view(torch.int32)).bitwise_and_(-1 << 16)
    return torch.where(values.isfinite(), bits.view(torch.float32), values).bfloat16()


class StochasticRounding(OnCopies):
    """Any optimiser over bf16 parameters, with arithmetic and states in fp32 and results rounded at random.

    An optimiser's step on the bf16 weights themselves is rounded to the nearest bf16 value: a step shorter
    than half their spacing (|w| / 256 to |w| / 128) is lost every time. Here it is taken with probability
    step / spacing. Between steps there are only the bf16 weights. The fp32 copies of weights and gradients
    are working memory: a step goes through the parameters in blocks of `BLOCK` elements, and only one block's
    copies exist at a time. No number depends on where the blocks begin.
    """

    def __init__(self, params: Groups, make_inner: Callable[[list[dict[str, Any]]], torch.optim.Optimizer]):
        types = {parameter.dtype for group in params for parameter in group["params"]}
        if others := types - {torch.bfloat16}:
            raise UserError(
                f"stochastic rounding is for bf16 weights, found {others.pop()}; use the optimiser without it"
            )
        super().__init__(params, make_inner)
        for _, copy in self._pairs:
            _release(copy)

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        inner = self.inner
        with self._settings():
            if isinstance(inner, ElementwiseOptimizer):
                inner.conclude([self._step_of(block, inner.advance) for block in self._blocks()])
            else:
                for block in self._blocks():
                    self._step_of(block, inner.step)

    def _blocks(self) -> Iterator[list[Pair]]:
        """Neighbours with at most `BLOCK` elements together, or a single one; their copies have memory."""
        blocks: list[list[Pair]] = []
        room = 0
        for pair in self._pairs:
            size = pair[1].numel()
            if size > room:
                blocks.append([])
                room = max(BLOCK, size)
            blocks[-1].append(pair)
            room -= size
        for block in blocks:
            for _, copy in block:
                copy.untyped_storage().resize_(copy.numel() * copy.element_size())
            yield block
            for _, copy in block:
                _release(copy)

    def update_curvature(self, estimate: Sequence[torch.Tensor]) -> None:
        """The estimate keeps its own precision: it is averaged in fp32, one tensor after the other."""
        with self._settings():
            self.inner.update_curvature(estimate)  # type: ignore[attr-defined]

    def _copy(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor.float()

    def _back(self, copy: torch.Tensor) -> torch.Tensor:
        return stochastic_round(copy)


def _release(tensor: torch.Tensor) -> None:
    """Free its memory. Shape and device stay, so that an optimiser can make states like it."""
    tensor.untyped_storage().resize_(0)
