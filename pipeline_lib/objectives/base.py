"""What every objective returns and tells the training side, and the reductions they share.

Shapes: B examples, T tokens, N answer tokens. Losses divide by the counts of the whole accumulated
step, so micro-batch losses add up to the loss of one large batch.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Literal

import torch

from pipeline_lib.data.batching import Batch
from pipeline_lib.models.forward import answer_nll

ForgetAnswers = Literal["answer", "alternative", "both"]
Alternatives = Literal["refusals", "records", "random_labels"]
ReferenceModel = Callable[[], AbstractContextManager[Any]]  # `with reference_model() as model:`


@dataclass(frozen=True)
class Losses:
    """Scalars of one (micro-)batch.

    `total` is minimised. `forget` and `retain` are the mean NLL per answer token, in nats, of what
    the batches hold (where an objective learns alternatives alone, the forget batch holds those); they
    are for the log and carry no gradient. None = the objective makes no prediction on that set.
    """

    total: torch.Tensor
    forget: torch.Tensor | None
    retain: torch.Tensor | None


class Objective:
    """Base of all objectives: `objective(model, forget, retain) -> Losses`.

    Class attributes and methods tell the training side what to prepare. `alternatives` may also be a
    setting, that is, an attribute of the object; read all of them from the object.
    """

    forget_answers: ForgetAnswers = "answer"  # what the forget batch's labels hold; "both": the true
    # answers, and `Batch.alternative` holds an alternative answer to each, row by row
    alternatives: Alternatives | None = None  # where alternative answers come from
    uses_forget: bool = True  # False: the forget batch is None or ignored
    uses_retain: bool = True
    needs_reference_nll: bool = False  # `Batch.reference_nll` of the forget batch and of its alternative
    needs_reference_model: bool = False  # the attribute `reference_model`
    needs_original_weights: bool = False  # `finish` gets the weights before training
    reference_model: ReferenceModel | None = None  # gives the model before unlearning; nothing in it learns

    def __call__(self, model, forget: Batch | None, retain: Batch | None) -> Losses:
        raise TypeError(f"{type(self).__name__} does not define a loss")

    def trainable(self, model: torch.nn.Module) -> list[str] | None:
        """Names of the parameters that learn; None = all. The others are frozen, none is unfrozen."""
        return None

    def after_step(self, losses: dict[str, float]) -> None:
        """Called after each optimiser step with its losses and "epoch": epochs of training so far."""

    def state(self) -> dict[str, float]:
        """What a checkpoint must hold so that `restore` continues from there; numbers that fp64 holds."""
        return {}

    def restore(self, state: dict[str, float]) -> None:
        """Continue from what `state` gave."""

    def finish(self, model: torch.nn.Module, original: dict[str, torch.Tensor]) -> None:
        """Change the trained model in place before it is saved; `original`: its weights before training."""

    def _reference(self) -> AbstractContextManager[Any]:
        if self.reference_model is None:
            raise ValueError(f"{type(self).__name__} needs `reference_model`, the model before unlearning")
        return self.reference_model()


def reference_nll(objective: Objective, batch: Batch) -> torch.Tensor:
    """The (B,) summed NLL under the model before unlearning that the caller must have put in."""
    if batch.reference_nll is None:
        raise ValueError(f"{type(objective).__name__} needs `Batch.reference_nll` of the forget batch")
    return batch.reference_nll


def mean_nll(model, batch: Batch) -> torch.Tensor:
    """Mean NLL per answer token of the whole step, in nats: this batch's share of it (scalar)."""
    return answer_nll(model, batch)[0].sum() / batch.tokens_in_step


def share_of_step(batch: Batch) -> float:
    """This batch's share of the step's answer tokens: what it carries of a term without examples."""
    return batch.answer_tokens / batch.tokens_in_step
