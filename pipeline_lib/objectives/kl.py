"""Gradient ascent held near the original model on the retain set."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F

from pipeline_lib.data.batching import Batch
from pipeline_lib.models.forward import answer_logits
from pipeline_lib.objectives.base import Losses, Objective, mean_nll


@dataclass(frozen=True)
class KL(Objective):
    """L = -lm_f + gamma KL(p_ref || p) (TOFU, arXiv 2401.06121, section 3).

    The divergence is in nats, summed over the vocabulary and averaged over the retain set's answer
    tokens: prompts and padding do not count. It needs whole distributions, so the model before
    unlearning stays in memory (`reference_model`, frozen).
    """

    gamma: float
    reference_model: Any = None
    needs_reference_model: ClassVar[bool] = True

    def __call__(self, model, forget: Batch | None, retain: Batch | None) -> Losses:
        assert forget is not None and retain is not None
        if self.reference_model is None:
            raise ValueError("KL needs `reference_model`, the model before unlearning")
        forget_loss = mean_nll(model, forget)
        logits, targets, _ = answer_logits(model, retain)  # (N, V)
        with torch.no_grad():
            reference = F.log_softmax(answer_logits(self.reference_model, retain)[0].float(), dim=-1)
        log_p = F.log_softmax(logits.float(), dim=-1)
        divergence = F.kl_div(log_p, reference, reduction="sum", log_target=True) / retain.tokens_in_step
        retain_loss = F.nll_loss(log_p.detach(), targets, reduction="sum") / retain.tokens_in_step
        return Losses(-forget_loss + self.gamma * divergence, forget_loss.detach(), retain_loss)
