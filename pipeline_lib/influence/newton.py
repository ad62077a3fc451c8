"""The damped Newton direction by any of the solvers.

Shapes: P elements of all parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import torch

from pipeline_lib.data.batching import Batch
from pipeline_lib.distributed.group import ALONE, Group
from pipeline_lib.influence import SOLVERS
from pipeline_lib.influence.gauss_newton import GaussNewton
from pipeline_lib.influence.solvers import Report, System, check_settings


class NewtonSettings(Protocol):
    """Which solver it is, its damping, and when it stops."""

    solver: str
    damping: float
    max_iterations: int
    tolerance: float


def newton_direction(
    model: torch.nn.Module,
    batches: Sequence[Batch],
    parameters: Sequence[torch.Tensor],
    gradient: torch.Tensor,
    settings: NewtonSettings,
    generator: torch.Generator,
    watch: Callable[[], object],
    group: Group = ALONE,
) -> tuple[torch.Tensor, Report]:
    """x with (G + damping I) x = `gradient` (P,), and how well it solves this.

    G: see `GaussNewton`, on `batches`. `generator` draws the labels of sampled curvature, on the model's
    device. `watch` is called after every product with G. `group`: processes that share the passes over the
    data, except those for ekfac's own factors, which each process makes. Raises `ValueError` for damping that
    is not positive, `UserError` where the model or the installation lacks something.
    """
    limits = (settings.damping, settings.max_iterations, settings.tolerance)
    check_settings(*limits)
    product = GaussNewton(model, batches, parameters, group)

    def operator(vector: torch.Tensor) -> torch.Tensor:
        result = product(vector)
        watch()
        return result

    system = System(model, batches, parameters, operator, *limits, generator, group)
    return SOLVERS.parse({"kind": settings.solver}).solve(system, gradient)
