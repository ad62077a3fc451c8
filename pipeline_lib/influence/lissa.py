"""LiSSA, a Neumann series."""

from __future__ import annotations

import math
from typing import ClassVar, Literal

from pipeline_lib.influence.solvers import Operator, Report, Solver, System, Tensor, check_settings, report_on

_POWER_ITERATIONS = 20


class LiSSA(Solver):
    """See `lissa`."""

    kind: Literal["lissa"]

    vectors: ClassVar[float] = 3.0

    def solve(self, system: System, right: Tensor) -> tuple[Tensor, Report]:
        return lissa(system.operator, right, system.damping, system.max_iterations, system.tolerance)


def lissa(
    operator: Operator, right: Tensor, damping: float, max_iterations: int, tolerance: float
) -> tuple[Tensor, Report]:
    """LiSSA: the Neumann series x <- x + (b - (G + damping I) x) / s, from x = b / s.

    Source: Agarwal et al. 2017, arXiv 1602.03943, section 3; as used by Koh & Liang 2017, arXiv 1703.04730,
    section 3. This is its full form: every iteration uses the whole G. The stochastic form, with one batch an
    iteration, ends in noise of its own that no tolerance can bound. It converges for every s above half of
    (largest eigenvalue + damping); s is the largest eigenvalue by power iteration, plus damping, and is
    doubled whenever the residual grows. Each iteration shrinks the error by 1 - damping / s. So it needs
    about s / damping iterations, where conjugate gradients need about the square root of that; with small
    damping it does not converge, and says so. Keeps three vectors beside `right`.
    """
    import torch

    from pipeline_lib.influence.vectors import norm

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


def largest_eigenvalue(operator: Operator, start: Tensor) -> float:
    """Largest eigenvalue of G among the directions that `start` reaches, by power iteration, from below.

    A series that starts from `start` never leaves the space of start, G start, G^2 start, ..., so other
    eigenvalues do not matter to it. At most 20 products; usually within 1 %. NaN where G is not finite.
    """
    from pipeline_lib.influence.vectors import norm

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
