"""What every optimiser is: its settings, what it needs and costs, and how its torch optimiser is made."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from pipeline_lib.core.blocks import Faults, Positive
from pipeline_lib.core.families import Method
from pipeline_lib.core.runs import Order
from pipeline_lib.curvature import Estimator
from pipeline_lib.optimizers.update import Group, Groups, TorchOptimizer, Twin, Update, Watch

if TYPE_CHECKING:
    from pipeline_lib.curvature.arranged import Arrangement
    from pipeline_lib.smoothing import Smoothing
else:  # the union of all kinds
    from pipeline_lib.smoothing import SMOOTHINGS

    Smoothing = SMOOTHINGS.union()

CurvatureData = Literal["forget", "retain", "both"]
ASSUMED_STEPS = 10.0  # between two estimates of the curvature, where a suite says auto


@dataclass(frozen=True)
class Curvature:
    """The settings of a run's curvature; `drift_target` is None unless `update_every` is "auto"."""

    estimator: Estimator
    update_every: int | Literal["auto"]  # steps
    drift_target: float | None
    data: CurvatureData
    examples: int | None  # of each set of a step; None = all
    arrangement: Arrangement | None = None  # of every estimate, before it is averaged

    @property
    def steps_between(self) -> float:
        """Steps from one estimate to the next, as far as the settings alone say."""
        return ASSUMED_STEPS if self.update_every == "auto" else float(self.update_every)


class Optimizer(Method):
    """Base of all optimisers.

    Fields are the settings of a suite; the other attributes say what training prepares and what the planner
    counts.
    """

    learning_rate: Positive
    # Left out of the resolved settings, so that runs without one keep their identity.
    smoothing: Smoothing | None = Field(
        None,
        description="What makes the forgotten hard to relearn; the plain step where left out",
        exclude_if=lambda value: value is None,
    )

    order: ClassVar[Order] = "FO"
    display: ClassVar[str]  # its name in tables and figures
    reference: ClassVar[bool] = False  # reports give the cost of the others relative to its own
    taken_by: ClassVar[str | None] = None  # the module whose TAKES makes its updates; None: the plain one
    one_shot: ClassVar[bool] = False  # one step over the whole sets, and no `build`
    elementwise: ClassVar[bool] = False  # its step is compiled for large models
    moves_zeros: ClassVar[bool] = False  # a coordinate whose gradient is 0 may move
    layers_apart: ClassVar[bool] = False  # matrices that are no embeddings are the first parameter group
    needs_fp32: ClassVar[str | None] = None  # why it needs `weights: fp32`; None: it does not
    on_device: ClassVar[str | None] = None  # why it cannot be offloaded; None: it can
    control_of: ClassVar[str | None] = None  # the kind of which it is a control; None: it is none

    @model_validator(mode="after")
    def _takes_steps(self) -> Self:
        if self.taken_by is not None and self.smoothing is not None:
            why = (
                "takes one step over the whole sets" if self.one_shot else "does not step along one gradient"
            )
            raise Faults([("smoothing", f"{self.kind} {why}, which nothing smooths; leave it out")])
        return self

    @property
    def curvature(self) -> Curvature | None:
        """What is estimated for its steps; None where nothing is."""
        return None

    @property
    def members(self) -> tuple[Optimizer, ...]:
        """The optimisers that take its steps in turn; none where it takes them itself."""
        return ()

    @property
    def forward_passes(self) -> int:
        """Passes over the sets in a step without a gradient; 0 where it takes one."""
        return 0

    @property
    def solver_vectors(self) -> float:
        """Vectors of the size of all weights, in fp32, that a one-shot step keeps beside the gradient."""
        return 0.0

    @property
    def solver_examples(self) -> int:
        """Examples that the products with the curvature of a one-shot step read, one after the other."""
        return 0

    def seeded(self, seed: int) -> Self:
        """The optimiser of a run with this seed, where one of its settings is drawn."""
        return self

    def involved(self) -> tuple[Method, ...]:
        chosen = (None if self.curvature is None else self.curvature.estimator, self.smoothing)
        return (self, *(method for method in chosen if method is not None))

    def modules(self) -> tuple[str, ...]:
        return super().modules() if self.taken_by is None else (*super().modules(), self.taken_by)

    def state_bytes(self, trained: float, embedding: float, width: int) -> float:
        """Bytes of its states for `trained` parameters of `width` bytes each.

        `embedding`: how many parameters the model's embedding has.
        """
        raise TypeError(f"{self.kind} does not say what it keeps")

    def matrix_bytes(self, rows: int, columns: int, width: int) -> float:
        """Bytes that it keeps beside `state_bytes` for one trained matrix of this shape."""
        return 0.0

    def build(self, groups: Groups, parts: Group) -> TorchOptimizer:
        """The torch optimiser over these parameter groups, each with a `weight_decay` of its own.

        `parts`: the processes that hold the parameters, each perhaps only a part of them.
        """
        raise TypeError(f"{self.kind} does not define a step")


class Elementwise(Optimizer):
    """Base of optimisers whose step is one `update` of single coordinates; see `elementwise.py`."""

    elementwise: ClassVar[bool] = True
    states: ClassVar[tuple[str, ...]]  # one tensor a parameter under each name, zero at first
    update: ClassVar[Update]  # its first sum is the squared step without decay
    twin: ClassVar[Twin | None] = None  # the same update as a Triton kernel, where there is one

    @property
    def watch(self) -> Watch | None:
        """What is measured beside its steps; None where nothing is."""
        return None

    def settings(self) -> dict[str, Any]:
        """What a parameter group holds: `lr`, and the settings that `coefficients` reads."""
        return {"lr": self.learning_rate, **self.model_dump(exclude={"kind", "learning_rate", "smoothing"})}

    def coefficients(self, group: dict[str, Any]) -> tuple[float, ...]:
        """What `update` takes after the tensors, from the settings of a parameter group."""
        raise TypeError(f"{self.kind} does not define its coefficients")

    def statistics(self, groups: Groups, sums: Sequence[float], coordinates: int) -> dict[str, float]:
        """Facts of a step for the log, from the sums over all `coordinates` that took part in it.

        The sums are those of `update`, then those of `watch`.
        May adapt the settings of the parameter groups for the next step.
        """
        return {"update_norm": math.sqrt(sums[0])}

    def state_bytes(self, trained: float, embedding: float, width: int) -> float:
        watched = () if self.watch is None else self.watch.states
        return len((*self.states, *watched)) * trained * width

    def build(self, groups: Groups, parts: Group) -> TorchOptimizer:
        from pipeline_lib.optimizers.elementwise import ElementwiseOptimizer

        return ElementwiseOptimizer(groups, self, parts.over_parts)
