"""Gauss-Newton-Bartlett: curvature from labels that the model itself draws."""

from __future__ import annotations

import math
from typing import Literal

from pipeline_lib.curvature.base import Batch, Estimator, Generator, Tensor, own_gradients


class GaussNewtonBartlett(Estimator):
    """N g^2, with g the gradient of the mean cross-entropy to labels drawn from the model.

    Source: Sophia, Liu et al. 2023, arXiv 2305.14342, algorithm 2. Labels y are drawn from the model's own
    next-token distribution at the N answer positions of the chosen data; the true answers matter only as the
    text that the model reads. By Bartlett's first identity the gradients of different
    positions are uncorrelated and have mean zero, so that the mean of N g^2 is the diagonal of the
    generalised Gauss-Newton matrix J^T (diag(p) - p p^T) J, averaged over the positions, which for this
    loss is the Fisher matrix (Martens 2020, arXiv 1412.1193). Never negative.
    Costs one forward and one backward pass over the chosen data.
    """

    kind: Literal["gauss_newton_bartlett"]

    def estimate(self, model, objective, step, parameters, generator, gradient=None, group=None):
        import torch

        from pipeline_lib.distributed.group import ALONE
        from pipeline_lib.distributed.pieces import pieces
        from pipeline_lib.models.forward import answer_logits

        group = group or ALONE
        batches, tokens = step.chosen(self.kind)
        drawn = [chances(batch, generator) for batch in batches]  # every process draws for the whole step
        with own_gradients(group.leaves(parameters)):
            for piece in pieces(batches, group):
                logits = answer_logits(model, piece.batch)[0]  # (N, V)
                with torch.no_grad():
                    slope = logits.float().softmax(-1)
                    place = drawn[piece.source]
                    labels = draw_labels(slope, place if piece.answers is None else place[piece.answers])
                    # d cross-entropy / d logits = p - onehot(y): in place of a second softmax.
                    slope[torch.arange(len(labels), device=labels.device), labels] -= 1
                    slope /= tokens if piece.counts else math.inf
                group.backward(logits, slope.to(logits.dtype), parameters)
                torch.clear_autocast_cache()  # else gradients wait in bf16 for the last batch
            total = group.collected(parameters)
        for value in total:
            value.square_().mul_(tokens)
        return total


def chances(batch: Batch, generator: Generator) -> Tensor:
    """A number uniform in [0, 1) for each answer token of the batch, (N, 1)."""
    import torch

    return torch.rand((batch.answer_tokens, 1), generator=generator, device=generator.device)


def draw_labels(probabilities: Tensor, place: Tensor) -> Tensor:
    """One label a row (N,) from `probabilities` (N, V), by inverting the distribution function at `place`.

    `torch.multinomial` draws V random numbers a row for one label (about 20 times slower at V = 8192 on
    a CPU) and crashes the process on a GPU where a probability is not a number. Here the label is then
    arbitrary and the estimate not finite, which the caller checks. Cumulative sums in fp32 round each
    probability to 2^-24.
    """
    import torch

    cumulative = probabilities.cumsum(-1)  # (N, V)
    labels = torch.searchsorted(cumulative, place * cumulative[:, -1:], right=True)[:, 0]
    return labels.clamp_(max=probabilities.shape[-1] - 1)
