"""The diagonal of G by sampling, and the system that it makes.

Shapes: P elements of all parameters.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar, Literal

from pipeline_lib.curvature.base import StepData
from pipeline_lib.curvature.gauss_newton import GaussNewtonBartlett, chances
from pipeline_lib.influence.solvers import (
    Batch,
    Generator,
    Group,
    Operator,
    Report,
    Solver,
    System,
    Tensor,
    check_settings,
    report_on,
)
from pipeline_lib.objectives.finetuning import FineTuning


class Diagonal(Solver):
    """The exact inverse of the diagonal of G, sampled; the report holds the residual of the whole system."""

    kind: Literal["diagonal"]

    vectors: ClassVar[float] = 4.0

    def solve(self, system: System, right: Tensor) -> tuple[Tensor, Report]:
        diagonal = sampled_diagonal(
            system.model, system.batches, system.parameters, system.generator, system.group
        )
        return solve_diagonal(system.operator, right, system.damping, system.tolerance, diagonal)


def solve_diagonal(
    operator: Operator, gradient: Tensor, damping: float, tolerance: float, diagonal: Tensor
) -> tuple[Tensor, Report]:
    """x = gradient / (diagonal + damping), exact where G is diagonal."""
    check_settings(damping, 1, tolerance)
    x = gradient / (diagonal + damping)
    return x, report_on(operator, gradient, x, damping, tolerance, 1, "the diagonal is an approximation")


def sampled_diagonal(
    model: Any,
    batches: Sequence[Batch],
    parameters: Sequence[Tensor],
    generator: Generator,
    group: Group | None = None,
) -> Tensor:
    """Estimate of the diagonal of G (P,): the mean of Gauss-Newton-Bartlett draws, one for each example.

    Each is unbiased for its own example; weighted by answer tokens, their mean is unbiased for G. One draw
    has the relative error of a squared normal variable (1.4), the mean over n examples about 1.4 / sqrt(n),
    and it costs one forward and backward pass over the data, as a single draw from one large batch does.
    Two vectors of memory. The processes of `group` share the examples.
    """
    from pipeline_lib.distributed.group import ALONE
    from pipeline_lib.influence.vectors import parts, zeros

    group = group or ALONE
    total = zeros(parameters)
    singles = [_row(batch, row) for batch in batches for row in range(len(batch.index))]
    tokens = sum(single.answer_tokens for single in singles)
    for place, single in enumerate(singles):
        if place % group.size != group.rank:
            chances(single, generator)  # so that every process draws the same for the others
        elif single.answer_tokens:
            draw = GaussNewtonBartlett(kind="gauss_newton_bartlett").estimate(
                model, FineTuning(), StepData([single], [], "forget"), parameters, generator
            )
            for part, value in zip(parts(total, parameters), draw, strict=True):
                part.add_(value, alpha=single.answer_tokens / tokens)
    group.sum_([total])
    return total


def _row(batch: Batch, row: int) -> Batch:
    """One example of the batch, without its padding."""
    here = slice(row, row + 1)
    width = int(batch.attention_mask[row].sum())  # padding is on the right
    return replace(
        batch,
        input_ids=batch.input_ids[here, :width],
        attention_mask=batch.attention_mask[here, :width],
        labels=batch.labels[here, :width],
        hidden=None if batch.hidden is None else batch.hidden[here, :width],
        index=batch.index[here],
        reference_nll=None,
    )
