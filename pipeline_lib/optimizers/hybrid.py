"""Two optimisers in turn: whether a model keeps what its first steps found, or its last."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, Self, cast, get_args

from pydantic import Field, field_validator

from pipeline_lib.core.blocks import Count, Faults, Positive
from pipeline_lib.core.families import Method
from pipeline_lib.core.runs import Order
from pipeline_lib.optimizers.base import Curvature, Optimizer


class Hybrid(Optimizer):
    """`steps_each` steps of `first`, as many of `second`, and so on; the last ones are those of `last`.

    Source: the hybrids of first and zeroth order in *Downgrade to Upgrade* (arXiv 2510.00761), which says
    neither how long each turn is nor which one ends: both are settings here (`open`). Turns are counted from
    the end of the run, so that the last one is whole and the first may be shorter. Each optimiser keeps its
    states while the other one steps; curvature is estimated in the turns of the one that needs it.
    """

    kind: Literal["hybrid"]
    learning_rate: Positive = Field(1.0, description="Factor on the learning rates of both")
    first: dict[str, Any] = Field(description="An optimiser with all its settings: `{kind: adamw, ...}`")
    second: dict[str, Any] = Field(description="The other one, in the same form")
    steps_each: Count = Field(10, description="Steps of a turn")
    last: Literal["first", "second"] = Field("second", description="Whose turn ends the run")

    display: ClassVar[str] = "Hybrid"
    taken_by: ClassVar[str] = "pipeline_lib.training.hybrid"
    on_device: ClassVar[str | None] = "each of its two optimisers would step on a copy of the weights"

    @field_validator("first", "second")
    @classmethod
    def _resolved(cls, value: dict[str, Any]) -> dict[str, Any]:
        """The settings with every default."""
        from pipeline_lib.optimizers import OPTIMIZERS

        chosen = OPTIMIZERS.checked(value)
        if chosen.one_shot or isinstance(chosen, Hybrid):
            why = "it takes one step over the whole sets" if chosen.one_shot else "it is two already"
            line = f"{chosen.kind} cannot take turns with another: {why}; choose one that keeps states"
            raise Faults([("kind", line)])
        if chosen.smoothing is not None:
            raise Faults([("smoothing", "an optimiser that takes turns steps plainly; leave it out")])
        return chosen.model_dump()

    @property
    def members(self) -> tuple[Optimizer, Optimizer]:
        """Both optimisers, with the learning rates that they begin with."""
        from pipeline_lib.optimizers import OPTIMIZERS

        first, second = (OPTIMIZERS.parse(settings) for settings in (self.first, self.second))
        return self._scaled(first), self._scaled(second)

    def _scaled(self, member: Optimizer) -> Optimizer:
        return member.model_copy(update={"learning_rate": self.learning_rate * member.learning_rate})

    def turn(self, step: int, steps: int) -> int:
        """0 where step `step` of `steps`, counted from 0, is one of `first`, 1 where one of `second`."""
        from_the_end = (steps - 1 - step) // self.steps_each
        return (from_the_end + (self.last == "second")) % 2

    def seeded(self, seed: int) -> Self:
        first, second = (member.seeded(seed) for member in self._unscaled)
        return self.model_copy(update={"first": first.model_dump(), "second": second.model_dump()})

    @property
    def _unscaled(self) -> tuple[Optimizer, Optimizer]:
        return cast("tuple[Optimizer, Optimizer]", self.model_copy(update={"learning_rate": 1.0}).members)

    def involved(self) -> tuple[Method, ...]:
        return self, *(method for member in self.members for method in member.involved())

    def modules(self) -> tuple[str, ...]:
        of_members = (module for member in self.members for module in member.modules())
        return tuple(dict.fromkeys((*super().modules(), *of_members)))

    @property
    def order(self) -> Order:  # type: ignore[override]
        """The highest order of derivatives that it uses."""
        return max((member.order for member in self.members), key=get_args(Order).index)

    @property
    def curvature(self) -> Curvature | None:
        return next((m.curvature for m in self.members if m.curvature is not None), None)

    @property
    def moves_zeros(self) -> bool:  # type: ignore[override]
        return any(member.moves_zeros for member in self.members)

    @property
    def needs_fp32(self) -> str | None:  # type: ignore[override]
        return next((m.needs_fp32 for m in self.members if m.needs_fp32 is not None), None)

    def state_bytes(self, trained: float, embedding: float, width: int) -> float:
        return sum(member.state_bytes(trained, embedding, width) for member in self.members)
