"""What most objectives share: forget_weight * forget + weight * retain, and what the retain term may be.

Shapes: N answer tokens, D hidden size, V vocabulary.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field

from pipeline_lib.core.blocks import Positive
from pipeline_lib.objectives.base import Batch, Losses, Objective, Tensor, mean_nll

RETAIN = "Weight of the retain loss"
REFERENCE = "KL: the divergence from the model before unlearning, in place of the NLL"


POSITIONS = (
    "Positions that count: those that predict an answer token, or, as in OpenUnlearning, those that hold one"
)


def option(default: object, description: str) -> Any:
    """A field that resolved settings leave out at its default: runs that never set it keep their identity."""
    return Field(default, description=description, exclude_if=lambda value: value == default)


class Retaining(Objective):
    """Base of objectives whose retain term may be something other than the NLL."""

    @property
    def term(self) -> str:
        """What the retain term is.

        "NLL": the mean NLL per answer token. "KL": KL(p_ref || p), summed over the vocabulary and averaged
        over the answer tokens, in nats; the model before unlearning then runs too.
        """
        raise TypeError(f"{self.kind} does not name its retain term")

    @property
    def reference_sets(self) -> tuple[Literal["forget", "retain"], ...]:
        return () if self.term == "NLL" else ("retain",)

    @property
    def distributions(self) -> int:
        return 3 if self.term == "KL" else 0

    def retain_term(self, model: Any, retain: Batch) -> tuple[Tensor, Tensor]:
        """This batch's share of the retain term, and of the mean NLL for the log (scalars)."""
        if self.term == "KL":
            return self._divergence(model, retain)
        loss = mean_nll(model, retain)
        return loss, loss.detach()

    def _divergence(self, model: Any, batch: Batch) -> tuple[Tensor, Tensor]:
        import torch
        import torch.nn.functional as F

        from pipeline_lib.models.forward import answer_hidden, over_vocabulary
        from pipeline_lib.models.head import output_head

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
        divergence, nll = over_vocabulary(output_head(model), hidden, sums, targets, reference)
        return divergence / batch.tokens_in_step, nll / batch.tokens_in_step


def of_terms(
    forget_term: Tensor, retain_term: Tensor, forget: Tensor | None, retain: Tensor | None
) -> Losses:
    """The losses of an objective with its `terms_apart`."""
    return Losses(forget_term + retain_term, forget, retain, forget_term, retain_term)


class TwoTerms(Retaining):
    """Base of objectives of two terms, with the settings that these share."""

    terms_apart: ClassVar[bool] = True

    forget_weight: Positive = option(1.0, "Weight of the forget term")
    retain_loss_type: Literal["NLL", "KL"] = option("NLL", REFERENCE)

    @property
    def term(self) -> str:
        return self.retain_loss_type

    def losses(self, loss: Tensor, nll: Tensor, weight: float, model: Any, retain: Batch) -> Losses:
        """`forget_weight` times the forget term `loss`, plus `weight` times the retain term.

        `nll`: the mean NLL per answer token of the forget batch, for the log.
        """
        kept, retain_loss = self.retain_term(model, retain)
        return of_terms(self.forget_weight * loss, weight * kept, nll.detach(), retain_loss)
