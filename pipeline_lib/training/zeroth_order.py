"""A zeroth-order step: losses on both sides of the weights (`optimizers/zeroth_order.py`)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch

from pipeline_lib.distributed.group import Group
from pipeline_lib.optimizers.along_directions import AlongDirections, Direction, Measured
from pipeline_lib.optimizers.make import make_optimizer
from pipeline_lib.optimizers.zeroth_order import ZerothOrder
from pipeline_lib.training.batches import Course
from pipeline_lib.training.sampling import derived_seed
from pipeline_lib.training.settings import Unlearn
from pipeline_lib.training.updates import Diverged, Step, Update


@dataclass
class ZerothOrderUpdate(Update):
    """Measure the slopes along `queries` directions, scale them to `max_grad_norm`, and step.

    All passes of a step see the same batches and the same chance. With accumulation, and in several
    processes, a loss is that of all rows of the step, along directions that are the same in every process.
    In the log the losses are means over the points that were measured on both sides, `grad_norm` is the
    estimate of the gradient's norm before it is scaled.
    """

    method: ZerothOrder
    optimizer: AlongDirections
    max_grad_norm: float

    def take(self, step: Step) -> dict[str, Any]:
        method, optimizer = self.method, self.optimizer
        seeds = [derived_seed(step.seed, "direction", step.number, query) for query in range(method.queries)]
        step.group.check_same(seeds[0], "the random directions of a zeroth-order step")
        middle = step.losses()["loss"] if method.bends else 0.0
        directions, sides, slopes, bends = [], [], [], []
        for query, seed in enumerate(seeds):
            direction = optimizer.direction(seed)
            above, below = self._both(step, direction)
            directions.append(direction)
            sides += [above, below]
            slopes.append((above["loss"] - below["loss"]) / (2 * method.mu))
            bends.append(abs(above["loss"] + below["loss"] - 2 * middle) / (2 * method.mu**2))
            if query < method.queries - 1:
                optimizer.move(direction, method.mu)
        norm = math.sqrt(sum(slope**2 for slope in slopes) / method.queries)
        if not math.isfinite(norm + sum(bends)):
            optimizer.move(directions[-1], method.mu)
            raise Diverged
        share = min(1.0, self.max_grad_norm / norm) / method.queries if norm else 0.0
        optimizer.measured = Measured(
            directions, [share * slope for slope in slopes], [b / method.queries for b in bends], method.mu
        )
        step.apply(optimizer)
        losses = {name: sum(side[name] for side in sides) / len(sides) for name in sides[0]}
        return {**losses, "grad_norm": norm, **optimizer.statistics}

    def _both(self, step: Step, direction: Direction) -> tuple[dict[str, float], dict[str, float]]:
        """The losses at mu and at -mu along the direction, where the weights are left."""
        self.optimizer.move(direction, self.method.mu)
        above = step.losses()
        self.optimizer.move(direction, -2 * self.method.mu)
        return above, step.losses()


def zeroth_order_update(
    method: ZerothOrder, model: torch.nn.Module, course: Course, training: Unlearn, group: Group
) -> ZerothOrderUpdate:
    """The update of a model by a zeroth-order method."""
    optimizer = make_optimizer(method, model, training.weights == "bf16_stochastic", group=group)
    assert isinstance(optimizer, AlongDirections)
    return ZerothOrderUpdate(method, optimizer, training.max_grad_norm)


TAKES = zeroth_order_update
