"""The damped Newton direction by any of the solvers.

Shapes: P elements of all parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from pipeline_lib.data.batching import Batch
from pipeline_lib.distributed.group import ALONE, Group
from pipeline_lib.influence.diagonal import sampled_diagonal, solve_diagonal
from pipeline_lib.influence.ekfac import ekfac_direction
from pipeline_lib.influence.gauss_newton import GaussNewton
from pipeline_lib.influence.solvers import (
    Report,
    check_settings,
    conjugate_gradient,
    lissa,
    report_on,
)

SOLVERS = ("diagonal", "conjugate_gradient", "lissa", "ekfac")


def newton_direction(
    model: torch.nn.Module,
    batches: Sequence[Batch],
    parameters: Sequence[torch.Tensor],
    gradient: torch.Tensor,
    solver: str,
    damping: float,
    max_iterations: int,
    tolerance: float,
    generator: torch.Generator,
    watch: Callable[[], object],
    group: Group = ALONE,
) -> tuple[torch.Tensor, Report]:
    """x with (G + damping I) x = `gradient` (P,), and how well it solves this.

    G: see `GaussNewton`, on `batches`. `diagonal`, `ekfac`: the exact inverse of an approximation of G;
    their report still holds the residual of the whole system. `generator` draws the labels of sampled
    curvature, on the model's device. `watch` is called after every product with G. Raises `ValueError` for
    damping that is not positive, `UserError` where the model or the installation lacks something. `group`:
    processes that share the passes over the data, but for those of ekfac's own factors, which each makes.
    """
    check_settings(damping, max_iterations, tolerance)
    product = GaussNewton(model, batches, parameters, group)

    def operator(vector: torch.Tensor) -> torch.Tensor:
        result = product(vector)
        watch()
        return result

    if solver == "conjugate_gradient":
        return conjugate_gradient(operator, gradient, damping, max_iterations, tolerance)
    if solver == "lissa":
        return lissa(operator, gradient, damping, max_iterations, tolerance)
    if solver == "diagonal":
        diagonal = sampled_diagonal(model, batches, parameters, generator, group)
        return solve_diagonal(operator, gradient, damping, tolerance, diagonal)
    if solver == "ekfac":
        x = ekfac_direction(model, batches, parameters, gradient, damping, generator)
        x = group.broadcast_(x)  # one answer for all, should their eigenvectors differ in a bit
        return x, report_on(operator, gradient, x, damping, tolerance, 1, "EK-FAC is an approximation")
    raise ValueError(f"solver must be one of {', '.join(SOLVERS)}; found {solver!r}")
