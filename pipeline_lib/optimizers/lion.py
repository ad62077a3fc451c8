"""Lion: the sign of an average that leans on the newest gradient."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pipeline_lib.core.blocks import NonNegative, Share
from pipeline_lib.optimizers.base import Elementwise
from pipeline_lib.optimizers.update import Twin, Update


def lion_update(theta, gradient, momentum, decay, lr, newest, weight):
    movement = lr * momentum.lerp(gradient, newest).sign()
    theta.sub_(decay * theta + movement)
    momentum.lerp_(gradient, weight)
    return (movement.square(),)


class Lion(Elementwise):
    """theta = (1 - lr wd) theta - lr sign(b1 m + (1 - b1) g); then m = b2 m + (1 - b2) g.

    Source: Chen et al. 2023, arXiv 2302.06675, algorithm 2.
    """

    kind: Literal["lion"]
    beta1: Share = 0.9
    beta2: Share = 0.99
    weight_decay: NonNegative = 0.0

    display: ClassVar[str] = "Lion"
    states: ClassVar[tuple[str, ...]] = ("momentum",)
    update: ClassVar[Update] = staticmethod(lion_update)
    twin: ClassVar[Twin | None] = Twin("lion_update", 1, 1, 1, (0.1, 0.5, 0.7063, 0.2937))

    def coefficients(self, group: dict[str, Any]) -> tuple[float, ...]:
        return group["lr"] * group["weight_decay"], group["lr"], 1 - group["beta1"], 1 - group["beta2"]
