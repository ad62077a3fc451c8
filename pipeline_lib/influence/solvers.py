"""What every solver of (G + damping I) x = b is, for a symmetric positive semidefinite G.

Shapes: P elements. Every solver returns x (P,) and a `Report` whose residual is computed from this x by a
product with G, never taken from a recurrence.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from pipeline_lib.core.families import Method

if TYPE_CHECKING:
    from torch import Generator, Tensor

    from pipeline_lib.data.batching import Batch
    from pipeline_lib.distributed.group import Group
else:  # for annotations, here and in the solvers: they are read without torch
    Batch = Generator = Group = Tensor = Any

Operator = Callable[[Tensor], Tensor]  # (P,) -> (P,): v -> G v


@dataclass(frozen=True)
class Report:
    """How a solve ended."""

    iterations: int
    relative_residual: float  # |b - (G + damping I) x| / |b|; not a number where the curvature is not finite
    converged: bool  # relative_residual <= tolerance
    reason: str  # why it stopped before it converged; empty when converged

    @property
    def finite(self) -> bool:
        return math.isfinite(self.relative_residual)


@dataclass(frozen=True)
class System:
    """(G + damping I) x = b, what a solver may know about G, and when to stop.

    `operator`: products with G, the curvature of `model` in its `parameters` on `batches`. `generator` draws
    the labels of sampled curvature, on the model's device. `group`: processes that share the passes over the
    data.
    """

    model: Any
    batches: Sequence[Batch]
    parameters: Sequence[Tensor]
    operator: Operator
    damping: float
    max_iterations: int
    tolerance: float
    generator: Generator
    group: Group


class Solver(Method):
    """Base of all solvers."""

    vectors: ClassVar[float]  # of size P, in fp32, that it keeps beside b

    def solve(self, system: System, right: Tensor) -> tuple[Tensor, Report]:
        """x (P,) for b = `right` (P,), and how well it solves the system."""
        raise TypeError(f"{self.kind} does not define a solution")


def report_on(
    operator: Operator,
    right: Tensor,
    x: Tensor,
    damping: float,
    tolerance: float,
    iterations: int,
    reason: str,
) -> Report:
    """The report on a solution from elsewhere: one product gives its true residual.

    `reason`: why the solution may miss the tolerance; dropped where it does not.
    """
    from pipeline_lib.influence.vectors import norm

    length = norm(right)
    if length == 0:
        return Report(iterations, 0.0, True, "")
    relative = norm(operator(x).add_(x, alpha=damping).neg_().add_(right)) / length
    converged = relative <= tolerance
    return Report(
        iterations, relative if math.isfinite(relative) else math.nan, converged, "" if converged else reason
    )


def check_settings(damping: float, max_iterations: int, tolerance: float) -> None:
    """Raise `ValueError` for settings with which nothing can be solved."""
    if not 0 < damping < math.inf:
        raise ValueError(f"damping must be a positive number, found {damping}")
    if max_iterations < 1:
        raise ValueError(f"max_iterations must be at least 1, found {max_iterations}")
    if not 0 < tolerance < 1:
        raise ValueError(f"tolerance must lie between 0 and 1, found {tolerance}")
