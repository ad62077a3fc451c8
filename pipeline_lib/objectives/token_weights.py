"""Gradient ascent with a weight for each token: WGA and SatImp.

p_t: probability of answer token t; nll_t = -log p_t in nats; weights carry no gradient.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from pipeline_lib.core.blocks import NonNegative
from pipeline_lib.objectives.base import Batch, Losses, Tensor
from pipeline_lib.objectives.retain import RETAIN, TwoTerms


class _WeightedAscent(TwoTerms):
    """L = -forget_weight mean_t w(p_t) nll_t + alpha retain, the mean over all answer tokens of the step."""

    alpha: NonNegative = Field(1.0, description=RETAIN)

    def weights(self, nll: Tensor) -> Tensor:
        """(N,) weights of tokens with these NLL (N,)."""
        raise TypeError(f"{self.kind} does not define weights")

    def loss_of(self, model: Any, forget: Batch | None, retain: Batch | None) -> Losses:
        from pipeline_lib.models.forward import answer_nll

        assert forget is not None and retain is not None
        nll, _ = answer_nll(model, forget)  # (N,)
        ascent = (self.weights(nll.detach()) * nll).sum() / forget.tokens_in_step
        return self.losses(-ascent, nll.sum() / forget.tokens_in_step, self.alpha, model, retain)


class WGA(_WeightedAscent):
    """w = p^beta (Wang et al. 2025, arXiv 2502.19301): tokens that are already forgotten weigh little.

    Ascent without a weight has its largest gradient on them. The logged total is no measure of progress:
    p^beta nll rises to 1 / (e beta) at p = exp(-1 / beta) and falls again while the token is forgotten.
    """

    kind: Literal["WGA"]
    beta: NonNegative = 1.0

    def weights(self, nll: Tensor) -> Tensor:
        return (-self.beta * nll).exp()


class SatImp(_WeightedAscent):
    """w = p^beta1 (1 - p)^beta2: saturation times importance (Yang et al. 2025, arXiv 2505.11953).

    Tokens that are known by heart or already forgotten weigh little. At p = 1 the weight is 0 for any
    beta2 > 0, so a text that is memorised to rounding is left alone.
    """

    kind: Literal["SatImp"]
    beta1: NonNegative = Field(5.0, description="Exponent of p: saturation")
    beta2: NonNegative = Field(1.0, description="Exponent of 1 - p: importance")
    alpha: NonNegative = Field(0.1, description=RETAIN)

    def weights(self, nll: Tensor) -> Tensor:
        import torch

        return (-self.beta1 * nll).exp() * (-torch.expm1(-nll)) ** self.beta2
