"""One flat vector for all parameters, and its parts.

Shapes: P elements of all parameters together, in the order of the list of parameters.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

_PIECE = 2**20  # elements of one fp32 dot product: sums of more round too much


def parts(vector: torch.Tensor, parameters: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Views of `vector` (P,) in the shapes of the parameters."""
    pieces = vector.split([parameter.numel() for parameter in parameters])
    return [piece.view_as(parameter) for piece, parameter in zip(pieces, parameters, strict=True)]


def zeros(parameters: Sequence[torch.Tensor]) -> torch.Tensor:
    """A zero vector (P,) with the parameters' type and device."""
    return torch.zeros(
        sum(parameter.numel() for parameter in parameters),
        dtype=parameters[0].dtype,
        device=parameters[0].device,
    )


def dot(a: torch.Tensor, b: torch.Tensor) -> float:
    """Inner product; pieces are added in double precision, without a copy of the vectors."""
    products = [x @ y for x, y in zip(a.split(_PIECE), b.split(_PIECE), strict=True)]
    return math.fsum(torch.stack(products).tolist())  # a GPU waits once


def norm(a: torch.Tensor) -> float:
    """L2 norm."""
    return math.sqrt(dot(a, a))
