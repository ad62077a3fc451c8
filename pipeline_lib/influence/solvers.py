"""Solvers of (G + damping I) x = b for a symmetric positive semidefinite G that is known by its products.

Shapes: P elements. Every solver returns x (P,) and a `Report` whose residual is that of this very x,
recomputed from b and a product with G, never taken from a recurrence.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch

from pipeline_lib.influence.vectors import dot, norm

Operator = Callable[[torch.Tensor], torch.Tensor]  # (P,) -> (P,): v -> G v

_POWER_ITERATIONS = 20


@dataclass(frozen=True)
class Report:
    """How a solve ended."""

    iterations: int
    relative_residual: float  # |b - (G + damping I) x| / |b|; not a number where the curvature is not finite
    converged: bool  # relative_residual <= tolerance
    reason: str  # why it stopped before; empty when converged

    @property
    def finite(self) -> bool:
        return math.isfinite(self.relative_residual)


def conjugate_gradient(
    operator: Operator,
    right: torch.Tensor,
    damping: float,
    max_iterations: int,
    tolerance: float,
) -> tuple[torch.Tensor, Report]:
    """Conjugate gradients from x = 0 (Hestenes & Stiefel 1952; for deep networks Martens 2010).

    One product an iteration, and one more to check the residual where the recurrence says that it is done: if
    rounding made that untrue, the search goes on from the true residual. Stops at `tolerance`, at
    `max_iterations`, and at a direction without positive curvature, which a correct G cannot have. Keeps
    four vectors beside `right`. Not preconditioned: with the diagonal of G, sampled or exact, language models
    took as many iterations or more (docs/influence.md).
    """
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


def lissa(
    operator: Operator, right: torch.Tensor, damping: float, max_iterations: int, tolerance: float
) -> tuple[torch.Tensor, Report]:
    """LiSSA: the Neumann series x <- x + (b - (G + damping I) x) / s, from x = b / s.

    Source: Agarwal et al. 2017, arXiv 1602.03943, section 3; as used by Koh & Liang 2017, arXiv 1703.04730,
    section 3. In its full form: every iteration uses the whole G. The stochastic form, with a batch an
    iteration, ends in noise of its own that no tolerance can bound. It converges for every s above half of
    (largest eigenvalue + damping); s is the largest eigenvalue by power iteration, plus damping, and is
    doubled whenever the residual grows. The error shrinks by 1 - damping / s an iteration: it needs about
    s / damping of them, where conjugate gradients need about the square root of that; with small damping it
    will not converge, and says so. Keeps three vectors beside `right`.
    """
    check_settings(damping, max_iterations, tolerance)
    length = norm(right)
    x = torch.zeros_like(right)
    if not length > 0:
        return x, report_on(operator, right, x, damping, tolerance, 0, "the right-hand side is not finite")
    scale = largest_eigenvalue(operator, right) + damping
    if not math.isfinite(scale):
        return x, Report(0, math.nan, False, "met non-finite curvature in the power iteration")
    x.add_(right, alpha=1 / scale)
    before = math.inf
    for iteration in range(1, max_iterations + 1):
        residual = operator(x).add_(x, alpha=damping).neg_().add_(right)
        relative = norm(residual) / length
        if not math.isfinite(relative):
            return x, Report(iteration, math.nan, False, f"met non-finite curvature in iteration {iteration}")
        if relative <= tolerance:
            return x, Report(iteration, relative, True, "")
        if relative > before:
            scale *= 2
        before = relative
        if iteration < max_iterations:  # the last residual belongs to the x that is returned
            x.add_(residual, alpha=1 / scale)
        del residual
    return x, Report(max_iterations, before, False, f"stopped at max_iterations = {max_iterations}")


def report_on(
    operator: Operator,
    right: torch.Tensor,
    x: torch.Tensor,
    damping: float,
    tolerance: float,
    iterations: int,
    reason: str,
) -> Report:
    """The report on a solution from elsewhere: one product gives its true residual.

    `reason`: why the solution may miss the tolerance; dropped where it does not.
    """
    length = norm(right)
    if length == 0:
        return Report(iterations, 0.0, True, "")
    residual = operator(x).add_(x, alpha=damping).neg_().add_(right)
    relative = norm(residual) / length
    converged = relative <= tolerance
    return Report(
        iterations, relative if math.isfinite(relative) else math.nan, converged, "" if converged else reason
    )


def largest_eigenvalue(operator: Operator, start: torch.Tensor) -> float:
    """Largest eigenvalue of G among the directions that `start` reaches, by power iteration, from below.

    A series that starts from `start` never leaves the space of start, G start, G^2 start, ..., so other
    eigenvalues do not matter to it. At most 20 products; within 1 % as a rule. NaN where G is not finite.
    """
    vector = start / norm(start)
    value = 0.0
    for _ in range(_POWER_ITERATIONS):
        product = operator(vector)
        before, value = value, norm(product)
        if not math.isfinite(value):
            return math.nan
        if value == 0 or abs(value - before) <= 0.01 * value:
            return value
        vector = product.div_(value)
    return value


def check_settings(damping: float, max_iterations: int, tolerance: float) -> None:
    """Raise `ValueError` for settings under which no solve makes sense."""
    if not 0 < damping < math.inf:
        raise ValueError(f"damping must be a positive number, found {damping}")
    if max_iterations < 1:
        raise ValueError(f"max_iterations must be at least 1, found {max_iterations}")
    if not 0 < tolerance < 1:
        raise ValueError(f"tolerance must lie between 0 and 1, found {tolerance}")
