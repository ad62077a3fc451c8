"""The torch optimisers of Sophia's controls that are more than one update: see `ClippedNewton`."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import torch

from pipeline_lib.curvature.arranged import Arrangement
from pipeline_lib.distributed.group import Group
from pipeline_lib.optimizers.elementwise import ElementwiseOptimizer, run
from pipeline_lib.optimizers.update import Groups, Update


class ArrangedSquares(ElementwiseOptimizer):
    """Averages arranged squares of the gradient into `curvature` before the update, which then adds none."""

    def __init__(self, params: Groups, method: Any, arrangement: Arrangement, parts: Group):
        super().__init__(params, method, parts.over_parts)
        self._arrangement, self._parts = arrangement, parts
        self._places = {p: i for i, p in enumerate(p for group in params for p in group["params"])}

    @torch.no_grad()
    def advance(self) -> tuple[torch.Tensor | None, int]:
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._average(parameter, group["beta2"])
        return super().advance()

    def _average(self, parameter: torch.Tensor, keep: float) -> None:
        """As the update would: h = b2 h + (1 - b2) g^2, half precision in fp32 and rounded once."""
        average, gradient = self.state_of(parameter)["curvature"], parameter.grad
        assert gradient is not None
        wide = torch.promote_types(average.dtype, torch.float32)
        square = gradient.to(wide).square()
        arranged = self._arrangement.of(square, parameter, self._places[parameter], self._parts)
        average.copy_(average.to(wide).mul_(keep).add_(arranged, alpha=1 - keep))


class SignOfEqualNorm(ElementwiseOptimizer):
    """Steps by the sign of the momentum, all coordinates by one length: such that the norm is Sophia's.

    The states are Sophia's own. A first pass brings them up to date and measures the step that Sophia would
    take; a second one, over all parameters of all processes, takes the other.
    """

    def __init__(self, params: Groups, method: Any, over_parts: Callable[[Sequence[float]], list[float]]):
        super().__init__(params, method, over_parts)
        self.update, self.twin = _measured(method.update), None

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        totals = self.conclude([self.advance()])
        if totals is None:
            return
        squares, _, moving, *_ = totals
        length = math.sqrt(squares / moving) if moving else 0.0
        for group in self.param_groups:
            held = [parameter for parameter in group["params"] if parameter.grad is not None]
            if held:
                coefficients = (group["lr"] * group["weight_decay"], length)
                run(_sign_step, None, self.rows(held, ("momentum",)), coefficients, self.large)


def _sign_step(theta, gradient, momentum, decay, length):
    theta.sub_(decay * theta + length * momentum.sign())
    return (momentum != 0,)


@cache  # one function an update: it is compiled once
def _measured(update: Update) -> Update:
    """The update without its step: its states and sums, and how many coordinates have a momentum."""

    def measured(theta, gradient, momentum, *others):
        sums = update(torch.zeros_like(theta), gradient, momentum, *others)
        return *sums, momentum != 0

    return measured
