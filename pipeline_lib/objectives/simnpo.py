"""Negative preference optimisation with the answer's length in place of a reference model."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from pipeline_lib.core.blocks import NonNegative, Positive
from pipeline_lib.objectives.base import Batch, Losses
from pipeline_lib.objectives.retain import RETAIN, TwoTerms


class SimNPO(TwoTerms):
    """L = -forget_weight (2 / beta) mean_i log sigmoid(beta lm_i - margin) + alpha retain.

    Source: Fan et al. 2024, arXiv 2410.07163, eq. 4 (its gamma is `margin`). lm_i is the mean NLL per
    token of answer i: NPO with the length in place of the reference model. The authors' code for TOFU and
    OpenUnlearning write beta (lm_i - delta), that is, margin = beta delta. The mean is over the examples of
    the step. Defaults are those of the paper's code for TOFU forget10 with Llama-2-7B-chat.
    """

    kind: Literal["SimNPO"]
    beta: Positive = 4.5
    margin: NonNegative = Field(0.0, description="The paper's gamma, subtracted inside the sigmoid")
    forget_weight: Positive = Field(0.125, description="Weight of the forget term")
    alpha: NonNegative = Field(1.0, description=RETAIN)

    def loss_of(self, model: Any, forget: Batch | None, retain: Batch | None) -> Losses:
        import torch
        import torch.nn.functional as F

        from pipeline_lib.models.forward import answer_nll

        assert forget is not None and retain is not None
        nll, rows = answer_nll(model, forget)  # (N,)
        zeros = torch.zeros(len(forget.index), dtype=nll.dtype, device=nll.device)
        summed = zeros.index_add(0, rows, nll)  # (B,)
        mean = summed / zeros.index_add(0, rows, torch.ones_like(nll))
        preference = F.logsigmoid(self.beta * mean - self.margin)
        loss = -(2 / self.beta) * preference.sum() / forget.examples_in_step
        return self.losses(loss, summed.sum() / forget.tokens_in_step, self.alpha, model, retain)
