"""Gradient ascent held near the original model on the retain set."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from pipeline_lib.data.batching import Batch
from pipeline_lib.models.adapters import plain_layer
from pipeline_lib.models.forward import answer_hidden, over_vocabulary
from pipeline_lib.objectives.base import Losses, Objective, ReferenceModel, mean_nll


@dataclass(frozen=True)
class KL(Objective):
    """L = -lm_f + gamma KL(p_ref || p) (TOFU, arXiv 2401.06121, section 3).

    The divergence is in nats, summed over the vocabulary and averaged over the retain set's answer
    tokens: prompts and padding do not count. It needs the whole distributions of the model before
    unlearning, so that model runs too (`reference_model`).
    """

    gamma: float
    reference_model: ReferenceModel | None = None
    needs_reference_model = True

    def __call__(self, model, forget: Batch | None, retain: Batch | None) -> Losses:
        assert forget is not None and retain is not None
        with self._reference() as before, torch.no_grad():
            reference, _, _ = answer_hidden(before, retain)  # (N, D)
            reference_head = plain_layer(before.get_output_embeddings())
        forget_loss = mean_nll(model, forget)

        def sums(logits, targets, reference):
            with torch.no_grad():
                reference = F.log_softmax(reference_head(reference).float(), dim=-1)  # (n, V)
            log_p = F.log_softmax(logits, dim=-1)
            divergence = F.kl_div(log_p, reference, reduction="sum", log_target=True)
            return divergence, F.nll_loss(log_p.detach(), targets, reduction="sum")

        hidden, targets, _ = answer_hidden(model, retain)
        head = model.get_output_embeddings()
        divergence, retain_loss = (
            value / retain.tokens_in_step for value in over_vocabulary(head, hidden, sums, targets, reference)
        )
        return Losses(-forget_loss + self.gamma * divergence, forget_loss.detach(), retain_loss)
