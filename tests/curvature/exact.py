"""Exact diagonals by autograd, for models of a few thousand parameters: what the estimators are held against.

Shapes: N answer tokens of all batches, V vocabulary, P parameters (all elements together).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from pipeline_lib.data.batching import Batch
from pipeline_lib.models.forward import answer_logits, answer_nll


def gauss_newton_diagonal(
    model: torch.nn.Module, batches: Sequence[Batch], parameters: Sequence[torch.Tensor]
) -> list[torch.Tensor]:
    """Diagonal of (1/N) sum_n J_n^T (diag(p_n) - p_n p_n^T) J_n, a tensor a parameter.

    J_n (V, P) are the derivatives of position n's logits, p_n (V,) its distribution: the generalised
    Gauss-Newton matrix of the mean NLL per answer token, which is also its Fisher matrix (Martens 2020,
    arXiv 1412.1193). Units: nats per answer token and squared unit of the parameter. Costs V backward
    passes a position and V P numbers of memory.
    """
    total = [torch.zeros_like(parameter) for parameter in parameters]
    tokens = 0
    for batch in batches:
        logits = answer_logits(model, batch)[0]  # (N of the batch, V)
        tokens += len(logits)
        for row in logits:
            p = row.detach().softmax(-1)  # (V,)
            for value, jacobian in zip(total, _jacobian(row, parameters), strict=True):
                flat = jacobian.flatten(1)  # (V, elements)
                value += (p @ flat.square() - (p @ flat).square()).view_as(value)
    return [value / tokens for value in total]


def hessian(
    model: torch.nn.Module, batches: Sequence[Batch], parameters: Sequence[torch.Tensor]
) -> torch.Tensor:
    """Hessian (P, P) of the mean NLL per answer token at the batches' labels, parameters one after the other.

    Units as above. Costs P backward passes through the graph of the gradient and P^2 numbers of memory.
    """
    tokens = sum(batch.answer_tokens for batch in batches)
    with sdpa_kernel(SDPBackend.MATH):  # fused attention has no second derivative
        loss = torch.stack([answer_nll(model, batch)[0].sum() for batch in batches]).sum() / tokens
        gradients = torch.autograd.grad(
            loss, parameters, create_graph=True, allow_unused=True, materialize_grads=True
        )
        gradient = torch.cat([part.flatten() for part in gradients])  # (P,)
        return torch.cat([block.flatten(1) for block in _jacobian(gradient, parameters)], dim=1)


def hessian_diagonal(
    model: torch.nn.Module, batches: Sequence[Batch], parameters: Sequence[torch.Tensor]
) -> list[torch.Tensor]:
    """Diagonal of `hessian`, a tensor a parameter."""
    diagonal = hessian(model, batches, parameters).diagonal()
    parts = diagonal.split([parameter.numel() for parameter in parameters])
    return [part.view_as(parameter).clone() for part, parameter in zip(parts, parameters, strict=True)]


def _jacobian(values: torch.Tensor, parameters: Sequence[torch.Tensor]) -> tuple[torch.Tensor, ...]:
    """Derivatives of `values` (K,), for each parameter (K, *its shape)."""
    return torch.autograd.grad(
        values,
        parameters,
        torch.eye(len(values), dtype=values.dtype, device=values.device),
        retain_graph=True,
        is_grads_batched=True,
        allow_unused=True,
        materialize_grads=True,
    )
