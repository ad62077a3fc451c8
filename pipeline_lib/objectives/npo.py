"""Negative preference optimisation against the model before unlearning."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field

from pipeline_lib.core.blocks import NonNegative, Positive
from pipeline_lib.objectives.base import Batch, Losses, reference_nll
from pipeline_lib.objectives.retain import RETAIN, TwoTerms


class NPO(TwoTerms):
    """L = -forget_weight (2 / beta) mean_i log sigmoid(beta (l_i - l_ref,i)) + alpha retain.

    Source: Zhang et al. 2024, arXiv 2404.05868, eq. 3, with the retain term of its section 5.
    l_i is the SUMMED NLL of answer i in nats, as in the paper's code (SOUL takes token means
    instead); l_ref,i the same under the model before unlearning: one number an example, so no
    second model is kept. The mean is over the examples of the step.
    """

    kind: Literal["NPO"]
    beta: Positive = 0.1
    alpha: NonNegative = Field(1.0, description=RETAIN)

    needs_reference_nll: ClassVar[bool] = True

    def loss_of(self, model: Any, forget: Batch | None, retain: Batch | None) -> Losses:
        import torch.nn.functional as F

        from pipeline_lib.models.forward import summed_nll

        assert forget is not None and retain is not None
        reference = reference_nll(self, forget)
        summed = summed_nll(model, forget)  # (B,)
        preference = F.logsigmoid(self.beta * (summed - reference))
        loss = -(2 / self.beta) * preference.sum() / forget.examples_in_step
        return self.losses(loss, summed.sum() / forget.tokens_in_step, self.alpha, model, retain)
