"""Negative preference optimisation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F

from pipeline_lib.data.batching import Batch
from pipeline_lib.models.forward import answer_nll
from pipeline_lib.objectives.base import Losses, Objective, mean_nll


@dataclass(frozen=True)
class NPO(Objective):
    """L = -(2 / beta) mean_i log sigmoid(beta (l_i - l_ref,i)) + alpha lm_r.

    Source: Zhang et al. 2024, arXiv 2404.05868, eq. 3, with the retain term of its section 5.
    l_i is the SUMMED NLL of answer i in nats, as in the paper's code (SOUL takes token means
    instead); l_ref,i the same under the model before unlearning: one number an example, so no
    second model is kept. The mean is over the examples of the step.
    """

    beta: float
    alpha: float
    needs_reference_nll: ClassVar[bool] = True

    def __call__(self, model, forget: Batch | None, retain: Batch | None) -> Losses:
        assert forget is not None and retain is not None
        if forget.reference_nll is None:
            raise ValueError("NPO needs `Batch.reference_nll` of the forget batch")
        nll, rows = answer_nll(model, forget)  # (N,)
        summed = torch.zeros(len(forget.index), device=nll.device).index_add(0, rows, nll)  # (B,)
        preference = F.logsigmoid(self.beta * (summed - forget.reference_nll))
        loss = -(2 / self.beta) * preference.sum() / forget.examples_in_step
        retain_loss = mean_nll(model, retain)
        forget_loss = summed.detach().sum() / forget.tokens_in_step
        return Losses(loss + self.alpha * retain_loss, forget_loss, retain_loss.detach())
