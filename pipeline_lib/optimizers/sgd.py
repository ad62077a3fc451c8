"""Gradient descent with momentum."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pipeline_lib.core.blocks import NonNegative, Share
from pipeline_lib.optimizers.base import Elementwise
from pipeline_lib.optimizers.update import Twin, Update


def sgd_update(theta, gradient, momentum, decay, lr, keep):
    momentum.mul_(keep).add_(gradient)
    movement = lr * momentum
    theta.sub_(decay * theta + movement)
    return (movement.square(),)


class SGD(Elementwise):
    """m = b m + g; theta = (1 - lr wd) theta - lr m.

    torch.optim.SGD without dampening, but with the decoupled weight decay of Loshchilov & Hutter 2019
    (arXiv 1711.05101, algorithm 1), so that one number decays alike under every optimiser here: torch's
    adds it to the gradient, and momentum 0.9 then multiplies it by ten.
    """

    kind: Literal["sgd"]
    momentum: Share = 0.9
    weight_decay: NonNegative = 0.0

    display: ClassVar[str] = "SGD"
    states: ClassVar[tuple[str, ...]] = ("momentum",)
    update: ClassVar[Update] = staticmethod(sgd_update)
    twin: ClassVar[Twin | None] = Twin("sgd_update", 1, 1, 1, (0.1, 0.5, 0.9))

    def coefficients(self, group: dict[str, Any]) -> tuple[float, ...]:
        return group["lr"] * group["weight_decay"], group["lr"], group["momentum"]
