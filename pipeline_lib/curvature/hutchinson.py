"""Hutchinson's estimate: the diagonal of the true Hessian from products with random vectors."""

from __future__ import annotations

import math
import re
from typing import ClassVar, Literal

from pipeline_lib.core.errors import UserError
from pipeline_lib.curvature.base import Estimator, Generator, Tensor, own_gradients

# What torch says where a forward pass has no second derivative.
_NO_SECOND_DERIVATIVE = re.compile(
    r"derivative for \S+ is not implemented|differentiate twice|double backward|does not require grad"
)


class Hutchinson(Estimator):
    """z * (H z) with a random probe z, one probe an estimate.

    Source: Sophia, Liu et al. 2023, arXiv 2305.14342, algorithm 1 (with Gaussian probes); Hutchinson 1990.
    H is the Hessian of the mean NLL per answer token of the chosen data at its own labels. The mean over
    probes is the diagonal of H whenever the entries of z are independent with mean 0 and variance 1:
    E[z_i H_ij z_j] = H_ij [i = j]. The variance of entry i is the sum over j != i of H_ij^2 for
    Rademacher probes; Gaussian ones add 2 H_ii^2. H may be indefinite and one estimate may be negative
    where H is not: Sophia divides by max(gamma h, eps), so that such a coordinate takes a sign step.
    The same z serves all micro-batches of a step: H z is linear in the loss, so their products add up.
    Costs two backward passes, of which the second runs through the graph of the first: nine matrix
    products for a gradient's three, and the memory of both graphs.
    """

    double_backward: ClassVar[bool] = True
    in_parts: ClassVar[str | None] = "it differentiates twice, which sharded layers do not support"
    gaussian: ClassVar[bool]

    def estimate(self, model, objective, step, parameters, generator, gradient=None, group=None):
        import torch
        from torch.nn.attention import SDPBackend, sdpa_kernel

        from pipeline_lib.distributed.group import ALONE
        from pipeline_lib.distributed.pieces import pieces
        from pipeline_lib.models.forward import answer_nll

        group = group or ALONE
        batches, tokens = step.chosen(self.kind)
        used = getattr(getattr(model, "config", None), "_attn_implementation", "eager")
        if used not in ("eager", "sdpa"):  # autograd takes the backward pass of other kernels for a constant
            raise _not_twice(model, f"its attention is {used}; eager and sdpa work")
        parameters = list(parameters)
        probes = [self._probe(parameter, generator) for parameter in parameters]
        with own_gradients([*model.parameters(), *parameters]):
            for piece in pieces(batches, group):
                # Fused attention kernels have no second derivative; the plain one has.
                with sdpa_kernel(SDPBackend.MATH):
                    count = tokens if piece.counts else math.inf
                    loss = answer_nll(model, piece.batch)[0].sum() / count
                    _add_product(model, loss, parameters, probes)
                torch.clear_autocast_cache()  # as Gauss-Newton-Bartlett does
            total = group.collected(parameters)
        for value, probe in zip(total, probes, strict=True):
            value.mul_(probe)
        return total

    def _probe(self, parameter: Tensor, generator: Generator) -> Tensor:
        import torch

        probe = torch.empty_like(parameter)
        return (
            probe.normal_(generator=generator)
            if self.gaussian
            else probe.random_(0, 2, generator=generator).mul_(2).sub_(1)
        )


class HutchinsonRademacher(Hutchinson):
    """With probes of +1 and -1: the smaller variance."""

    kind: Literal["hutchinson_rademacher"]

    gaussian: ClassVar[bool] = False


class HutchinsonGaussian(Hutchinson):
    """With standard normal probes, as in the paper."""

    kind: Literal["hutchinson_gaussian"]

    gaussian: ClassVar[bool] = True


def _add_product(model, loss, parameters, probes) -> None:
    """Add (Hessian of `loss`) z to the parameters' `.grad`."""
    import torch

    try:
        gradients = torch.autograd.grad(loss, parameters, create_graph=True, allow_unused=True)
        pairs = [(g, z) for g, z in zip(gradients, probes, strict=True) if g is not None and g.requires_grad]
        if not pairs:
            raise RuntimeError("the gradient does not require grad")
        # Into all leaves: if told to reach `parameters` only, autograd would skip the nodes that report that
        # they cannot be differentiated, and the product would silently lack their part.
        torch.autograd.backward([gradient for gradient, _ in pairs], [probe for _, probe in pairs])
    except RuntimeError as error:
        if not _NO_SECOND_DERIVATIVE.search(str(error)):
            raise
        raise _not_twice(model, str(error).splitlines()[0]) from error


def _not_twice(model, reason: str) -> UserError:
    return UserError(
        f"the forward pass of {type(model).__name__} cannot be differentiated twice, as Hutchinson's "
        f"estimators need ({reason}); use the estimator gauss_newton_bartlett or empirical_fisher, "
        "which need first derivatives only"
    )
