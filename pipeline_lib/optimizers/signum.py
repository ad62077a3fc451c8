"""Signum: the sign of the momentum. The control for clipped second-order methods."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pipeline_lib.optimizers.elementwise import ElementwiseOptimizer


def signum_update(theta, gradient, momentum, decay, lr, weight):
    momentum.lerp_(gradient, weight)
    movement = lr * momentum.sign()
    theta.sub_(decay * theta + movement)
    return (movement.square(),)


class Signum(ElementwiseOptimizer):
    """m = b m + (1 - b) g; theta = (1 - lr wd) theta - lr sign(m).

    Source: Bernstein et al. 2018, arXiv 1802.04434, algorithm 2.
    A Sophia step in which every coordinate is clipped is exactly this.
    """

    states = ("momentum",)
    update = staticmethod(signum_update)

    def __init__(self, params: Iterable[Any], lr: float, momentum: float, weight_decay: float):
        super().__init__(params, lr=lr, momentum=momentum, weight_decay=weight_decay)

    def coefficients(self, group: dict[str, Any]) -> tuple[float, ...]:
        return group["lr"] * group["weight_decay"], group["lr"], 1 - group["momentum"]
