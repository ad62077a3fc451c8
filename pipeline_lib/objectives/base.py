"""What every objective is: settings, what it needs from training and planning, and a loss.

Shapes: B examples, T tokens, N answer tokens. Losses divide by the counts of the whole accumulated
step, so micro-batch losses add up to the loss of one large batch.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pipeline_lib.core.families import Method

if TYPE_CHECKING:
    from torch import Tensor

    from pipeline_lib.data.batching import Batch
    from pipeline_lib.models.prompt import PromptFormat
else:  # for annotations, here and in the objectives: they are read without torch
    Batch = PromptFormat = Tensor = Any

ForgetAnswers = Literal["answer", "alternative", "both"]
Alternatives = Literal["refusals", "records", "random_labels"]
# The module that makes generic labels; a run that needs them imports it by this name.
GENERIC_LABELS = "pipeline_lib.training.generic_labels"
Part = Literal["total", "forget", "retain"]  # of what is minimised
ReferenceModel = Callable[[], AbstractContextManager[Any]]  # `with reference_model() as model:`


@dataclass(frozen=True)
class Losses:
    """Scalars of one (micro-)batch.

    `total` is minimised. `forget` and `retain` are the mean NLL per answer token, in nats, of what
    the batches hold (where an objective learns alternatives alone, the forget batch holds those); they
    are for the log and carry no gradient. None = the objective makes no prediction on that set.

    `forget_term` and `retain_term` add up to `total`, weights included, where the objective has its
    `terms_apart`; a missing retain term counts as 0.
    """

    total: Tensor
    forget: Tensor | None
    retain: Tensor | None
    forget_term: Tensor | None = None
    retain_term: Tensor | None = None

    def part(self, name: Part) -> Tensor | None:
        """This part of `total`, with its gradient; None for a missing retain term.

        Raises `ValueError` where the objective does not hold its terms apart.
        """
        if name == "total":
            return self.total
        if self.forget_term is None:
            raise ValueError(f"the gradient of the {name} term is asked for, and this objective has no terms")
        return self.forget_term if name == "forget" else self.retain_term


@dataclass(frozen=True)
class Reinforcing:
    """How a second model learns the forget set before unlearning starts."""

    epochs: float
    learning_rate: float  # of AdamW


class Objective(Method):
    """Base of all objectives: `objective(model, forget, retain) -> Losses`; a new one defines `loss_of`.

    Fields are the settings of a suite. The other attributes say what training prepares and what the planner
    counts; those that follow from the settings are properties, so read them from the object.
    """

    trained: ClassVar[bool] = True  # False: no step is taken, `prompts` is all that changes
    # What the forget batch's labels hold; "both": the true answers, while `Batch.alternative` holds an
    # alternative answer to each, row by row.
    forget_answers: ClassVar[ForgetAnswers] = "answer"
    uses_forget: ClassVar[bool] = True  # False: the forget batch is None or ignored
    uses_retain: ClassVar[bool] = True
    terms_apart: ClassVar[bool] = False  # its losses hold a term that forgets, apart from the retain term
    needs_reference_nll: ClassVar[bool] = False  # of the forget batch and its alternative
    needs_original_weights: ClassVar[bool] = False  # `finish` gets the weights before training

    _reference_model: ReferenceModel | None = None

    @property
    def teaches(self) -> Alternatives | None:
        """Where the other answers come from; None where none are taught."""
        return None

    @property
    def read_sets(self) -> tuple[Literal["forget", "retain"], ...]:
        """The sets of which the loss reads last hidden states, besides the alternatives."""
        return (*(("forget",) if self.uses_forget else ()), *(("retain",) if self.uses_retain else ()))

    @property
    def reference_sets(self) -> tuple[Literal["forget", "retain"], ...]:
        """The sets on which the model before unlearning runs at every step."""
        return ()

    @property
    def reference_depth(self) -> int | None:
        """Layers that a forward pass runs, of the model and of the one before unlearning; None = all."""
        return None

    @property
    def trained_outputs(self) -> int | None:
        """MLP output matrices that learn, one a layer; None = every weight that the loss reaches."""
        return None

    @property
    def distributions(self) -> int:
        """Tensors (N, V) in fp32 that a step holds beyond those of a cross-entropy."""
        return 0

    @property
    def reinforcing(self) -> Reinforcing | None:
        """How the reinforced model is trained, from which generic labels are made; None without one."""
        return None

    @property
    def needs_reference_model(self) -> bool:
        return bool(self.reference_sets)

    @property
    def needs_generic_labels(self) -> bool:
        return self.reinforcing is not None

    @property
    def forget_graphs(self) -> int:
        """Forward passes over forget batches whose graphs live at once."""
        return self.uses_forget * (2 if self.forget_answers == "both" else 1)

    def modules(self) -> tuple[str, ...]:
        return (*super().modules(), GENERIC_LABELS) if self.needs_generic_labels else super().modules()

    def __call__(self, model: Any, forget: Batch | None, retain: Batch | None) -> Losses:
        """The losses of a pair of (micro-)batches; what their texts share is read once."""
        from pipeline_lib.models.forward import read_together

        given = {"forget": forget, "retain": retain}
        batches = [batch for name in self.read_sets if (batch := given[name]) is not None]
        if self.forget_answers == "both" and forget is not None and forget.alternative is not None:
            batches.append(forget.alternative)
        with read_together(model, batches):
            return self.loss_of(model, forget, retain)

    def loss_of(self, model: Any, forget: Batch | None, retain: Batch | None) -> Losses:
        """What `__call__` gives: the one method that a new objective must have."""
        raise TypeError(f"{self.kind} does not define a loss")

    def with_reference_model(self, reference: ReferenceModel) -> Self:
        """A copy to which `reference` gives the model before unlearning; nothing in that model learns."""
        copy = self.model_copy()
        copy._reference_model = reference
        return copy

    def generic_logits(self, base: Tensor, reinforced: Tensor) -> Tensor:
        """Logits (N, V) whose argmax are the generic labels, from the logits (N, V) of both models."""
        raise TypeError(f"{self.kind} has no generic labels")

    def prompts(self, before: PromptFormat) -> PromptFormat:
        """The prompts of the unlearned model, from those of the model before."""
        return before

    def trainable(self, model: Any) -> list[str] | None:
        """Names of the parameters that learn; None = all. The others are frozen, none is unfrozen."""
        return None

    def after_step(self, losses: dict[str, float]) -> None:
        """Called after each optimiser step with its losses and "epoch": epochs of training so far."""

    def state(self) -> dict[str, float]:
        """What a checkpoint must hold so that `restore` continues from there; numbers exact in fp64."""
        return {}

    def restore(self, state: dict[str, float]) -> None:
        """Continue from what `state` gave."""

    def finish(self, model: Any, original: dict[str, Tensor]) -> None:
        """Change the trained model in place before it is saved; `original`: its weights before training."""

    def _reference(self) -> AbstractContextManager[Any]:
        from pipeline_lib.models.forward import apart

        if self._reference_model is None:
            raise ValueError(f"{self.kind} needs `reference_model`, the model before unlearning")
        return apart(self._reference_model())


def reference_nll(objective: Objective, batch: Batch) -> Tensor:
    """The (B,) summed NLL under the model before unlearning, which the caller must have put in."""
    if batch.reference_nll is None:
        raise ValueError(f"{objective.kind} needs `Batch.reference_nll` of the forget batch")
    return batch.reference_nll


def mean_nll(model: Any, batch: Batch) -> Tensor:
    """Mean NLL per answer token of the whole step, in nats: this batch's share of it (scalar)."""
    from pipeline_lib.models.forward import answer_nll

    return answer_nll(model, batch)[0].sum() / batch.tokens_in_step


def share_of_step(batch: Batch) -> float:
    """This batch's share of the step's answer tokens, and so of a term that has no examples."""
    return batch.answer_tokens / batch.tokens_in_step
