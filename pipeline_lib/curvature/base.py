"""What every curvature estimator offers, and what they share.

Shapes: B examples, T tokens, N answer tokens, V vocabulary, P parameters.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from pipeline_lib.core.blocks import Fault
from pipeline_lib.core.errors import UserError
from pipeline_lib.core.families import Method

if TYPE_CHECKING:
    from torch import Generator, Tensor

    from pipeline_lib.data.batching import Batch
    from pipeline_lib.distributed.group import Group
    from pipeline_lib.objectives import Objective
else:  # for annotations, here and in the estimators: they are read without torch
    Batch = Generator = Group = Objective = Tensor = Any


@dataclass(frozen=True)
class StepData:
    """What a curvature is measured on: the micro-batches of one step, which give what one large batch gives.

    `data` ("forget", "retain" or "both") says which of them count.
    """

    forget: Sequence[Batch]
    retain: Sequence[Batch]
    data: str

    def chosen(self, name: str) -> tuple[list[Batch], int]:
        """The micro-batches that count, and N, their answer tokens. `UserError` where N is 0.

        `name`: of the estimator that asks.
        """
        batches = [
            *(self.forget if self.data != "retain" else ()),
            *(self.retain if self.data != "forget" else ()),
        ]
        tokens = sum(batch.answer_tokens for batch in batches)
        if not tokens:
            where = "forget and retain" if self.data == "both" else self.data
            raise UserError(
                f"{name} needs answer tokens to measure curvature on, and the {where} batches of this step "
                "hold none; choose other `curvature_data`, or check that every record has an answer"
            )
        return batches, tokens


class Estimator(Method):
    """Base of all estimators of a diagonal of curvature, for Sophia and its relatives.

    Class attributes say what an estimate costs.
    """

    double_backward: ClassVar[bool] = False  # differentiates the gradient once more
    at_hand: ClassVar[bool] = False  # made from the gradient of the step, where the caller has it

    def faults(self, data: str, examples: int | None) -> Iterator[Fault]:
        """Why it cannot serve these `curvature_data` and `curvature_examples` of a suite."""
        return iter(())

    def estimate(
        self,
        model: Any,
        objective: Objective,
        step: StepData,
        parameters: Sequence[Tensor],
        generator: Generator,
        gradient: Sequence[Tensor | None] | None = None,
        group: Group | None = None,
    ) -> list[Tensor]:
        """One estimate: a tensor a parameter, in their shapes; zeros where a parameter has no influence.

        `objective` is what the step minimises. Units: nats per answer token and squared unit of the
        parameter. All randomness is the `generator`'s, on the model's device. `gradient`: that of the
        objective on this very step, not clipped, for estimators that are made of it. The parameters' `.grad`
        stay as they are. Raises `UserError` where the chosen data hold no answer token.

        `group`: the processes that share the work; None = this one alone. Each passes the micro-batches of
        the whole step and an equal `generator`; what is drawn does not depend on the number of processes. All
        get the same estimate (where parameters are sharded, the part of the process's own coordinates).
        """
        raise TypeError(f"{type(self).__name__} does not define an estimate")


@contextmanager
def own_gradients(parameters: Sequence[Tensor], first: Sequence[Tensor] | None = None) -> Iterator[None]:
    """Inside, `.grad` of the parameters starts as `first`, or empty; afterwards it is what it was.

    Backward passes then add up in place, one parameter after the other, and no second list of gradients is
    held.
    """
    before = [parameter.grad for parameter in parameters]
    try:
        for i, parameter in enumerate(parameters):
            parameter.grad = None if first is None else first[i]
        yield
    finally:
        for parameter, gradient in zip(parameters, before, strict=True):
            parameter.grad = gradient
