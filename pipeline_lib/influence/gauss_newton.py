"""Products of the generalised Gauss-Newton matrix with vectors, without the matrix.

Shapes: P elements of all parameters, N answer tokens of one batch, V vocabulary.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

import torch
from torch.autograd import forward_ad
from torch.nn.attention import SDPBackend, sdpa_kernel

from pipeline_lib.core.errors import UserError
from pipeline_lib.curvature.base import own_gradients
from pipeline_lib.data.batching import Batch
from pipeline_lib.distributed.group import ALONE, Group
from pipeline_lib.distributed.pieces import pieces
from pipeline_lib.influence.vectors import parts, zeros
from pipeline_lib.models.forward import answer_logits

# What torch says where an operation has no forward derivative.
_NO_DERIVATIVE = re.compile(r"forward AD|forward mode AD|\bjvp\b|derivative for \S+ is not implemented")


class GaussNewton:
    """v -> G v, with G = (1/n) sum_i J_i^T (diag(p_i) - p_i p_i^T) J_i over the n answer tokens of `batches`.

    J_i (V, P) are the derivatives of the logits that predict token i, p_i (V,) their softmax: the
    generalised Gauss-Newton matrix of the mean NLL per answer token, which for this loss is the Fisher
    matrix (Martens 2020, arXiv 1412.1193, sections 8 and 9; the product: Schraudolph 2002). Symmetric and
    positive semidefinite. Units: nats per answer token and squared unit of the parameter. Labels play no
    part except to say which positions count.

    For every batch, a product takes a forward pass with forward-mode derivatives (J v), then an ordinary
    forward and backward pass (J^T of the rest): the time of about two gradients (1.53 s against 0.77 s on six
    layers of SmolLM2-135M's width; the double-backward trick takes 1.76 s and 1.4 times the activations) and
    the memory of one gradient's activations. The result is the only vector of size P that it makes. It
    computes in the parameters' own type, never in bf16: rounding would break the conjugacy that conjugate
    gradients rely on. Attention runs on torch's plain kernel, because fused ones have no forward derivative.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        batches: Sequence[Batch],
        parameters: Sequence[torch.Tensor],
        group: Group = ALONE,
    ) -> None:
        """`parameters`: those of the model that move. Dropout must be off (`model.eval()`).

        `group`: processes that share the batches; each makes every product.
        """
        self._forward = AnswerLogits(model)
        names = {id(parameter): name for name, parameter in self._forward.named_parameters()}
        self._names = [names[id(parameter)] for parameter in parameters]
        self._parameters = list(parameters)
        self._pieces = pieces(batches, group)
        self._group = group
        self._tokens = sum(batch.answer_tokens for batch in batches)
        if not self._tokens:
            raise UserError(
                "the curvature needs answer tokens, and its examples hold none; choose other "
                "`curvature_data`, or check that every record has an answer"
            )

    def __call__(self, vector: torch.Tensor) -> torch.Tensor:
        """G `vector`, (P,) -> (P,). Raises `UserError` for a model without forward-mode derivatives."""
        product = zeros(self._parameters)
        places = parts(product, self._parameters)  # to which backward passes add in place
        with own_gradients(self._parameters, places), sdpa_kernel(SDPBackend.MATH):
            for piece in self._pieces:
                slope = self._directional_derivative(piece.batch, vector)  # (N, V)
                logits = self._forward(piece.batch)  # (N, V)
                p = logits.detach().float().softmax(-1)
                tokens = self._tokens if piece.counts else math.inf
                curved = p * (slope - (p * slope).sum(-1, keepdim=True)) / tokens
                torch.autograd.backward(logits, curved.to(logits.dtype), inputs=self._parameters)
        self._group.sum_([product])
        return product

    @torch.no_grad()
    def _directional_derivative(self, batch: Batch, vector: torch.Tensor) -> torch.Tensor:
        """Derivative of the batch's logits along `vector`, (N, V)."""
        tangents = parts(vector, self._parameters)
        try:
            with forward_ad.dual_level():
                moved = {
                    name: forward_ad.make_dual(parameter.detach(), tangent)
                    for name, parameter, tangent in zip(self._names, self._parameters, tangents, strict=True)
                }
                logits = torch.func.functional_call(self._forward, moved, (batch,))
                primal, tangent = forward_ad.unpack_dual(logits)
        except RuntimeError as error:
            if not _NO_DERIVATIVE.search(str(error)):
                raise
            raise UserError(
                f"the forward pass of {type(self._forward.model).__name__} has no forward-mode derivative, "
                f"which influence unlearning needs ({str(error).splitlines()[0]}); load the model with plain "
                "attention (attn_implementation eager or sdpa), or choose another optimizer"
            ) from error
        return torch.zeros_like(primal) if tangent is None else tangent


class AnswerLogits(torch.nn.Module):
    """`answer_logits` as a module, so that torch can call it with other parameters (ties included)."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: Batch) -> torch.Tensor:
        return answer_logits(self.model, batch)[0]
