"""What every objective returns, and the two reductions they share.

Shapes: B examples, T tokens, N answer tokens. Losses divide by the counts of the whole accumulated
step, so micro-batch losses add up to the loss of one large batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch

from pipeline_lib.data.batching import Batch
from pipeline_lib.models.forward import answer_nll


@dataclass(frozen=True)
class Losses:
    """Scalars of one (micro-)batch.

    `total` is minimised. `forget` and `retain` are the mean NLL per answer token, in nats, of what
    the batches hold (for refusal objectives the forget batch holds refusals); they are for the log
    and carry no gradient. None = the objective does not look at that set.
    """

    total: torch.Tensor
    forget: torch.Tensor | None
    retain: torch.Tensor | None


class Objective:
    """Base of all objectives: `objective(model, forget, retain) -> Losses`.

    Class attributes tell the training loop what to prepare.
    """

    forget_answers: ClassVar[Literal["answer", "refusal"]] = "answer"  # what forget labels hold
    uses_retain: ClassVar[bool] = True
    needs_reference_nll: ClassVar[bool] = False  # `Batch.reference_nll` of the model before unlearning
    needs_reference_model: ClassVar[bool] = False  # the attribute `reference_model`

    def __call__(self, model, forget: Batch | None, retain: Batch | None) -> Losses:
        raise TypeError(f"{type(self).__name__} does not define a loss")


def mean_nll(model, batch: Batch) -> torch.Tensor:
    """Mean NLL per answer token of the whole step, in nats: this batch's share of it (scalar)."""
    return answer_nll(model, batch)[0].sum() / batch.tokens_in_step
