"""Estimates of the loss's diagonal curvature, one non-negative tensor a parameter."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F

from pipeline_lib.data.batching import Batch
from pipeline_lib.models.forward import answer_logits


def gauss_newton_bartlett(
    model, batches: Sequence[Batch], parameters: Sequence[torch.Tensor], generator: torch.Generator
) -> list[torch.Tensor]:
    """Gauss-Newton-Bartlett estimate (Liu et al. 2023, arXiv 2305.14342, algorithm 2).

    Labels are drawn from the model's own next-token distribution at the answer positions; with L the
    mean cross-entropy to them over all N answer tokens of `batches`, the estimate is N * grad L^2
    elementwise. Its mean is the diagonal of the generalised Gauss-Newton matrix of the mean NLL per
    answer token. `batches` are the micro-batches of one step: they give what one large batch gives.
    Costs one forward and one backward pass. `generator` decides the labels (on the model's device).
    """
    tokens = sum(batch.answer_tokens for batch in batches)
    total = [torch.zeros_like(parameter) for parameter in parameters]
    for batch in batches:
        logits = answer_logits(model, batch)[0].float()  # (N, V)
        with torch.no_grad():
            labels = torch.multinomial(logits.softmax(-1), 1, generator=generator)[:, 0]
        loss = F.cross_entropy(logits, labels, reduction="sum") / tokens
        gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
        for accumulated, gradient in zip(total, gradients, strict=True):
            if gradient is not None:
                accumulated += gradient
    for accumulated in total:
        accumulated.square_().mul_(tokens)
    return total
