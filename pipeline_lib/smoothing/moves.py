"""What smoothings do to weights and gradients; lists have one tensor a parameter, None without gradient."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch

from pipeline_lib.smoothing.base import Part, Step

Vectors = Sequence[torch.Tensor | None]


@contextmanager
def moved(step: Step, moves: Iterable[torch.Tensor | None]) -> Iterator[None]:
    """Inside, the weights are theta plus `moves`; afterwards they are theta to the bit, from a copy."""
    kept = [parameter.detach().clone() for parameter in step.parameters]
    try:
        with torch.no_grad():
            for parameter, move in zip(step.parameters, moves, strict=True):
                if move is not None:
                    parameter.add_(move)
        step.group.stepped()
        yield
    finally:
        with torch.no_grad():
            for parameter, before in zip(step.parameters, kept, strict=True):
                parameter.copy_(before)
        step.group.stepped()


def along(vectors: Vectors, factor: float) -> Iterator[torch.Tensor | None]:
    """`factor` times each, one at a time."""
    return (None if vector is None else vector * factor for vector in vectors)


def held(step: Step) -> list[torch.Tensor | None]:
    """What lies in `.grad`; the step's next gradients leave it alone."""
    return [parameter.grad for parameter in step.parameters]


def length(step: Step) -> float | None:
    """L2 norm of what lies in `.grad`; None where it gives no direction: zero, or not finite."""
    found = float(step.group.norm(step.parameters))
    return found if found > 0 and math.isfinite(found) else None


def with_last(step: Step, vectors: Vectors, part: Part) -> dict[str, float]:
    """Leave the sum of `vectors` and the gradient of this part at theta in `.grad`; returns the losses."""
    losses = step.gradients(part=part)
    for parameter, vector in zip(step.parameters, vectors, strict=True):
        if vector is not None:
            parameter.grad = vector if parameter.grad is None else parameter.grad.add_(vector)
    return losses
