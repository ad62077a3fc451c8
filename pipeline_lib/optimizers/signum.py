"""Signum: the sign of the momentum. The control for clipped second-order methods."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pipeline_lib.core.blocks import NonNegative, Share
from pipeline_lib.optimizers.base import Elementwise
from pipeline_lib.optimizers.update import Twin, Update


def signum_update(theta, gradient, momentum, decay, lr, weight):
    momentum.lerp_(gradient, weight)
    movement = lr * momentum.sign()
    theta.sub_(decay * theta + movement)
    return (movement.square(),)


class Signum(Elementwise):
    """m = b m + (1 - b) g; theta = (1 - lr wd) theta - lr sign(m).

    Source: Bernstein et al. 2018, arXiv 1802.04434, algorithm 2.
    A Sophia step in which every coordinate is clipped is exactly this.
    """

    kind: Literal["signum"]
    momentum: Share = 0.9
    weight_decay: NonNegative = 0.0

    display: ClassVar[str] = "Signum"
    states: ClassVar[tuple[str, ...]] = ("momentum",)
    update: ClassVar[Update] = staticmethod(signum_update)
    twin: ClassVar[Twin | None] = Twin("signum_update", 1, 1, 1, (0.1, 0.5, 0.2937))

    def coefficients(self, group: dict[str, Any]) -> tuple[float, ...]:
        return group["lr"] * group["weight_decay"], group["lr"], 1 - group["momentum"]
