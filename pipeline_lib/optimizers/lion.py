"""Lion: the sign of an average that leans on the newest gradient."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pipeline_lib.optimizers.elementwise import ElementwiseOptimizer


def lion_update(theta, gradient, momentum, decay, lr, newest, weight):
    movement = lr * momentum.lerp(gradient, newest).sign()
    theta.sub_(decay * theta + movement)
    momentum.lerp_(gradient, weight)
    return (movement.square(),)


class Lion(ElementwiseOptimizer):
    """theta = (1 - lr wd) theta - lr sign(b1 m + (1 - b1) g); then m = b2 m + (1 - b2) g.

    Source: Chen et al. 2023, arXiv 2302.06675, algorithm 2.
    """

    states = ("momentum",)
    update = staticmethod(lion_update)

    def __init__(self, params: Iterable[Any], lr: float, beta1: float, beta2: float, weight_decay: float):
        super().__init__(params, lr=lr, beta1=beta1, beta2=beta2, weight_decay=weight_decay)

    def coefficients(self, group: dict[str, Any]) -> tuple[float, ...]:
        return group["lr"] * group["weight_decay"], group["lr"], 1 - group["beta1"], 1 - group["beta2"]
