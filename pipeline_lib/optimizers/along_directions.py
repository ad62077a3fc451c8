"""The torch optimiser of zeroth-order methods: it moves weights along directions drawn from seeds.

A direction is never kept: each use draws it again, piece by piece, from its seed, so that no tensor of the
size of the weights is made.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from pipeline_lib.optimizers.elementwise import chunks
from pipeline_lib.optimizers.update import Groups

Piece = tuple[dict[str, Any], torch.Tensor, list[torch.Tensor], list[torch.Tensor]]


@dataclass(frozen=True)
class Direction:
    """u = scale z, with z normal and drawn from the seed."""

    seed: int
    scale: float


@dataclass(frozen=True)
class Measured:
    """What a step knows of each direction: its slope c_i / q, and |d_i| / (2 mu^2 q), 0 where not measured.

    `back`: how far the weights still have to move along the last direction before the step.
    """

    directions: Sequence[Direction]
    slopes: Sequence[float]
    bends: Sequence[float]
    back: float


class AlongDirections(torch.optim.Optimizer):
    """Steps of a zeroth-order `method` by what was `measured`, which the update sets before each step.

    `statistics` holds "update_norm", the L2 norm of the last step without weight decay.
    """

    def __init__(self, params: Groups, method: Any):
        kept = method.model_dump(
            exclude={"kind", "learning_rate", "mu", "queries", "directions", "smoothing"}
        )
        super().__init__(params, {"lr": method.learning_rate, **kept})
        self.method = method
        self.measured: Measured | None = None
        self.statistics: dict[str, float] = {}

    def direction(self, seed: int) -> Direction:
        """The direction of this seed; one on the sphere is drawn once more, for its length."""
        if self.method.directions == "gaussian":
            return Direction(seed, 1.0)
        squares, count = [], 0
        for _, theta, _, (z,) in self._pieces([Direction(seed, 1.0)]):
            squares.append(z.square().sum(dtype=torch.float64))
            count += theta.numel()
        return Direction(seed, math.sqrt(count / torch.stack(squares).sum().item()))

    @torch.no_grad()
    def move(self, direction: Direction, by: float) -> None:
        """Move all parameters by so much of the direction."""
        for _, theta, states, (u,) in self._pieces([direction]):
            theta.add_(self.method.bent(u, states), alpha=by)

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One step of every parameter, from where the last measurement left the weights."""
        measured, squares = self.measured, []
        assert measured is not None, "an update measures the directions before it steps"
        for group, theta, states, drawn in self._pieces(measured.directions):
            if measured.back:
                theta.add_(self.method.bent(drawn[-1], states), alpha=measured.back)
            gradient = sum(
                c * self.method.bent(u, states) for c, u in zip(measured.slopes, drawn, strict=True)
            )
            given = [theta, gradient]
            if self.method.bends:
                given.append(sum(d * u.square() for d, u in zip(measured.bends, drawn, strict=True)))
            movement = self.method.update(*given, *states, *self.method.coefficients(group))
            squares.append(movement.square().sum(dtype=torch.float64))
        self.measured = None
        self.statistics = {"update_norm": math.sqrt(torch.stack(squares).sum().item())}

    def _pieces(self, directions: Sequence[Direction]) -> Iterator[Piece]:
        """For each piece of a parameter: settings, theta, states, and the piece of every direction."""
        generators: dict[torch.device, list[torch.Generator]] = {}
        for group in self.param_groups:
            for parameter in group["params"]:
                state, device = self.state[parameter], parameter.device
                if not state and self.method.states:
                    state.update(
                        {name: torch.full_like(parameter, self.method.begin) for name in self.method.states}
                    )
                if device not in generators:
                    generators[device] = [torch.Generator(device).manual_seed(d.seed) for d in directions]
                held = (state[name] for name in self.method.states)  # a checkpoint has an order of its own
                for theta, *states in chunks(parameter.detach(), *held):
                    drawn = [
                        torch.empty_like(theta).normal_(0.0, direction.scale, generator=generator)
                        for direction, generator in zip(directions, generators[device], strict=True)
                    ]
                    yield group, theta, states, drawn
