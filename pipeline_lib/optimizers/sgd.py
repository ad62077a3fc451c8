"""Gradient descent with momentum."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pipeline_lib.optimizers.elementwise import ElementwiseOptimizer


def sgd_update(theta, gradient, momentum, decay, lr, keep):
    momentum.mul_(keep).add_(gradient)
    movement = lr * momentum
    theta.sub_(decay * theta + movement)
    return (movement.square(),)


class SGD(ElementwiseOptimizer):
    """m = b m + g; theta = (1 - lr wd) theta - lr m.

    torch.optim.SGD without dampening, but with the decoupled weight decay of Loshchilov & Hutter 2019
    (arXiv 1711.05101, algorithm 1), so that one number decays alike under every optimiser here: torch's
    adds it to the gradient, and momentum 0.9 then multiplies it by ten.
    """

    states = ("momentum",)
    update = staticmethod(sgd_update)

    def __init__(self, params: Iterable[Any], lr: float, momentum: float, weight_decay: float):
        super().__init__(params, lr=lr, momentum=momentum, weight_decay=weight_decay)

    def coefficients(self, group: dict[str, Any]) -> tuple[float, ...]:
        return group["lr"] * group["weight_decay"], group["lr"], group["momentum"]
