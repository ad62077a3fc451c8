"""Conjugate gradients."""

from __future__ import annotations

import math
from typing import ClassVar, Literal

from pipeline_lib.influence.solvers import Operator, Report, Solver, System, Tensor, check_settings, report_on


class ConjugateGradient(Solver):
    """See `conjugate_gradient`."""

    kind: Literal["conjugate_gradient"]

    vectors: ClassVar[float] = 4.0

    def solve(self, system: System, right: Tensor) -> tuple[Tensor, Report]:
        return conjugate_gradient(
            system.operator, right, system.damping, system.max_iterations, system.tolerance
        )


def conjugate_gradient(
    operator: Operator,
    right: Tensor,
    damping: float,
    max_iterations: int,
    tolerance: float,
) -> tuple[Tensor, Report]:
    """Conjugate gradients from x = 0 (Hestenes & Stiefel 1952; for deep networks Martens 2010).

    One product an iteration, and one more to check the residual where the recurrence says that it is small
    enough: if rounding made that untrue, the search goes on from the true residual. Stops at `tolerance`, at
    `max_iterations`, and at a direction without positive curvature, which a correct G cannot have. Keeps
    four vectors beside `right`. Not preconditioned: with the diagonal of G, sampled or exact, language models
    took as many iterations or more (docs/influence.md).
    """
    import torch

    from pipeline_lib.influence.vectors import dot, norm

    check_settings(damping, max_iterations, tolerance)
    goal = tolerance * norm(right)
    x, residual = torch.zeros_like(right), right.clone()
    if not goal > 0:  # zero, or not a number
        return x, report_on(operator, right, x, damping, tolerance, 0, "the right-hand side is not finite")
    direction = residual.clone()
    rho = dot(residual, residual)
    reason = f"stopped at max_iterations = {max_iterations}"
    iterations = 0
    while iterations < max_iterations:
        product = operator(direction).add_(direction, alpha=damping)
        curvature = dot(direction, product)
        if not curvature > 0:
            fault = "non-positive" if math.isfinite(curvature) else "non-finite"
            reason = f"met {fault} curvature ({curvature:.3g}) in iteration {iterations + 1}"
            if not math.isfinite(curvature):
                return x, Report(iterations, math.nan, False, reason)
            break
        x.add_(direction, alpha=rho / curvature)
        residual.add_(product, alpha=-rho / curvature)
        iterations += 1
        restart = norm(residual) <= goal
        if restart:
            residual = operator(x).add_(x, alpha=damping).neg_().add_(right)
            if norm(residual) <= goal:
                return x, Report(iterations, norm(residual) / norm(right), True, "")
        before, rho = rho, dot(residual, residual)
        direction.mul_(0.0 if restart else rho / before).add_(residual)
        del product  # its memory serves the next one
    return x, report_on(operator, right, x, damping, tolerance, iterations, reason)
