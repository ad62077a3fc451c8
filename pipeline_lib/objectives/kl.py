"""Gradient ascent held near the original model on the retain set."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field

from pipeline_lib.core.blocks import NonNegative, Positive
from pipeline_lib.objectives.base import Batch, Losses, mean_nll
from pipeline_lib.objectives.retain import Retaining, of_terms, option


class KL(Retaining):
    """L = -forget_weight lm_f + gamma KL(p_ref || p) (TOFU, arXiv 2401.06121, section 3).

    The divergence is in nats, summed over the vocabulary and averaged over the retain set's answer
    tokens: prompts and padding do not count. It needs the whole distributions of the model before
    unlearning, so that model runs too (`reference_model`). GradDiff with `retain_loss_type: KL` is the same.
    """

    kind: Literal["KL"]
    forget_weight: Positive = option(1.0, "Weight of the forget term")
    gamma: NonNegative = Field(1.0, description="Weight of the divergence on the retain set")

    terms_apart: ClassVar[bool] = True

    @property
    def term(self) -> str:
        return "KL"

    def loss_of(self, model: Any, forget: Batch | None, retain: Batch | None) -> Losses:
        assert forget is not None and retain is not None
        forget_loss, (divergence, retain_loss) = mean_nll(model, forget), self.retain_term(model, retain)
        terms = self.forget_weight * -forget_loss, self.gamma * divergence
        return of_terms(*terms, forget_loss.detach(), retain_loss)
