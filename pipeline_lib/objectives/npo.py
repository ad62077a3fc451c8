"""Negative preference optimisation, against the model before unlearning and without it."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F

from pipeline_lib.data.batching import Batch
from pipeline_lib.models.forward import answer_nll, summed_nll
from pipeline_lib.objectives.base import Losses, reference_nll
from pipeline_lib.objectives.retain import TwoTerms


@dataclass(frozen=True)
class NPO(TwoTerms):
    """L = -forget_weight (2 / beta) mean_i log sigmoid(beta (l_i - l_ref,i)) + alpha retain.

    Source: Zhang et al. 2024, arXiv 2404.05868, eq. 3, with the retain term of its section 5.
    l_i is the SUMMED NLL of answer i in nats, as in the paper's code (SOUL takes token means
    instead); l_ref,i the same under the model before unlearning: one number an example, so no
    second model is kept. The mean is over the examples of the step.
    """

    beta: float
    alpha: float
    needs_reference_nll = True

    def __call__(self, model, forget: Batch | None, retain: Batch | None) -> Losses:
        assert forget is not None and retain is not None
        reference = reference_nll(self, forget)
        summed = summed_nll(model, forget)  # (B,)
        preference = F.logsigmoid(self.beta * (summed - reference))
        loss = -(2 / self.beta) * preference.sum() / forget.examples_in_step
        kept, retain_loss = self.retain_term(model, retain)
        forget_loss = summed.detach().sum() / forget.tokens_in_step
        return Losses(self.forget_weight * loss + self.alpha * kept, forget_loss, retain_loss)


@dataclass(frozen=True)
class SimNPO(TwoTerms):
    """L = -forget_weight (2 / beta) mean_i log sigmoid(beta lm_i - margin) + alpha retain.

    Source: Fan et al. 2024, arXiv 2410.07163, eq. 4 (its gamma is `margin`). lm_i is the mean NLL per
    token of answer i: NPO with the length in place of the reference model. The authors' code for TOFU and
    OpenUnlearning write beta (lm_i - delta), that is, margin = beta delta. The mean is over the examples of
    the step.
    """

    beta: float
    margin: float
    alpha: float
    forget_weight: float = field(kw_only=True)

    def __call__(self, model, forget: Batch | None, retain: Batch | None) -> Losses:
        assert forget is not None and retain is not None
        nll, rows = answer_nll(model, forget)  # (N,)
        zeros = torch.zeros(len(forget.index), dtype=nll.dtype, device=nll.device)
        summed = zeros.index_add(0, rows, nll)  # (B,)
        mean = summed / zeros.index_add(0, rows, torch.ones_like(nll))
        preference = F.logsigmoid(self.beta * mean - self.margin)
        loss = -(2 / self.beta) * preference.sum() / forget.examples_in_step
        kept, retain_loss = self.retain_term(model, retain)
        forget_loss = summed.detach().sum() / forget.tokens_in_step
        return Losses(self.forget_weight * loss + self.alpha * kept, forget_loss, retain_loss)
