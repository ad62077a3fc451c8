"""The two terms that most objectives have, forget_weight * forget + weight * retain, and what retain may be.

Shapes: N answer tokens, D hidden size, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from pipeline_lib.data.batching import Batch
from pipeline_lib.models.forward import answer_hidden, over_vocabulary
from pipeline_lib.models.head import output_head
from pipeline_lib.objectives.base import Objective, ReferenceModel, mean_nll


class Retaining(Objective):
    """Base of objectives with a retain term that may be another than the NLL.

    `retain_loss_type` "NLL": the mean NLL per answer token. "KL": KL(p_ref || p), summed over the vocabulary
    and averaged over the answer tokens, in nats; the model before unlearning then runs too.
    """

    retain_loss_type: str

    def __post_init__(self) -> None:
        if self.retain_loss_type == "KL":
            object.__setattr__(
                self, "needs_reference_model", True
            )  # the object's own; dataclasses are frozen

    def retain_term(self, model, retain: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """This batch's share of the retain term, and of the mean NLL, which is for the log (scalars)."""
        if self.retain_loss_type == "KL":
            return self._divergence(model, retain)
        loss = mean_nll(model, retain)
        return loss, loss.detach()

    def _divergence(self, model, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        with self._reference() as before, torch.no_grad():
            reference, _, _ = answer_hidden(before, batch)  # (N, D)
            reference_head = output_head(before, without_adapter=True)

        def sums(logits, targets, reference):
            with torch.no_grad():
                reference = F.log_softmax(reference_head(reference).float(), dim=-1)  # (n, V)
            log_p = F.log_softmax(logits, dim=-1)
            divergence = F.kl_div(log_p, reference, reduction="sum", log_target=True)
            return divergence, F.nll_loss(log_p.detach(), targets, reduction="sum")

        hidden, targets, _ = answer_hidden(model, batch)
        head = output_head(model)
        divergence, nll = over_vocabulary(head, hidden, sums, targets, reference)
        return divergence / batch.tokens_in_step, nll / batch.tokens_in_step


@dataclass(frozen=True, kw_only=True)
class TwoTerms(Retaining):
    """The settings that all of them share. What is left off is not among a suite's resolved settings."""

    forget_weight: float = 1.0
    retain_loss_type: str = "NLL"
    reference_model: ReferenceModel | None = None
