"""Signum: the sign of the momentum. The control for clipped second-order methods."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch

from pipeline_lib.optimizers.elementwise import chunks


class Signum(torch.optim.Optimizer):
    """m = b m + (1 - b) g; theta = (1 - lr wd) theta - lr sign(m).

    Source: Bernstein et al. 2018, arXiv 1802.04434, algorithm 2.
    A Sophia step in which every coordinate is clipped is exactly this.
    """

    def __init__(self, params: Iterable[Any], lr: float, momentum: float, weight_decay: float):
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if not state:
                    state["momentum"] = torch.zeros_like(parameter)
                for theta, gradient, momentum in chunks(parameter, parameter.grad, state["momentum"]):
                    momentum.lerp_(gradient, 1 - group["momentum"])
                    theta.mul_(1 - group["lr"] * group["weight_decay"])
                    theta.add_(momentum.sign(), alpha=-group["lr"])
