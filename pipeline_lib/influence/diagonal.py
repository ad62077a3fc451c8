"""The diagonal of G by sampling, and the system that it makes.

Shapes: P elements of all parameters.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from pipeline_lib.curvature.gauss_newton import GaussNewtonBartlett, chances
from pipeline_lib.data.batching import Batch
from pipeline_lib.distributed.group import ALONE, Group
from pipeline_lib.influence.solvers import Operator, Report, check_settings, report_on
from pipeline_lib.influence.vectors import parts, zeros
from pipeline_lib.objectives import Objective


def solve_diagonal(
    operator: Operator, gradient: torch.Tensor, damping: float, tolerance: float, diagonal: torch.Tensor
) -> tuple[torch.Tensor, Report]:
    """x = gradient / (diagonal + damping), exact where G is diagonal."""
    check_settings(damping, 1, tolerance)
    x = gradient / (diagonal + damping)
    return x, report_on(operator, gradient, x, damping, tolerance, 1, "the diagonal is an approximation")


def sampled_diagonal(
    model: torch.nn.Module,
    batches: Sequence[Batch],
    parameters: Sequence[torch.Tensor],
    generator: torch.Generator,
    group: Group = ALONE,
) -> torch.Tensor:
    """Estimate of the diagonal of G (P,): the mean of Gauss-Newton-Bartlett draws, one for each example.

    Each is unbiased for its own example; weighted by answer tokens their mean is unbiased for G. One draw
    has the relative error of a squared normal variable (1.4), the mean of n examples about 1.4 / sqrt(n),
    and it costs the same one forward and backward pass over the data as a single draw from one large batch.
    Two vectors of memory. The processes of `group` share the examples.
    """
    total = zeros(parameters)
    singles = [_row(batch, row) for batch in batches for row in range(len(batch.index))]
    tokens = sum(single.answer_tokens for single in singles)
    for place, single in enumerate(singles):
        if place % group.size != group.rank:
            chances(single, generator)  # so that what is drawn for the others is the same in every process
        elif single.answer_tokens:
            draw = GaussNewtonBartlett().estimate(
                model, Objective(), [single], [], "forget", parameters, generator
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
