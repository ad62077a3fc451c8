"""Steps of two optimisers in turn (`optimizers/hybrid.py`)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch

from pipeline_lib.distributed.group import Group
from pipeline_lib.optimizers.hybrid import Hybrid
from pipeline_lib.training.batches import Course
from pipeline_lib.training.make import make_update
from pipeline_lib.training.settings import Unlearn
from pipeline_lib.training.updates import Step, Update


class InTurn(torch.optim.Optimizer):
    """The parameter groups and states of two optimisers over the same parameters, as those of one.

    It takes no step itself. Its state dictionary numbers the parameters of the second after those of the
    first, so that a checkpoint holds the states of both.
    """

    def __init__(self, first: torch.optim.Optimizer, second: torch.optim.Optimizer) -> None:
        self.both = (first, second)

    @property
    def param_groups(self) -> list[dict[str, Any]]:  # type: ignore[override]
        return [group for one in self.both for group in one.param_groups]

    def state_dict(self) -> dict[str, Any]:
        first, second = (one.state_dict() for one in self.both)
        after = self._parameters_of_first
        return {
            "state": {**first["state"], **{after + i: state for i, state in second["state"].items()}},
            "param_groups": [
                *first["param_groups"],
                *({**g, "params": [after + i for i in g["params"]]} for g in second["param_groups"]),
            ],
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        after, count = self._parameters_of_first, len(self.both[0].param_groups)
        state, groups = state_dict["state"], state_dict["param_groups"]
        self.both[0].load_state_dict(
            {"state": {i: s for i, s in state.items() if i < after}, "param_groups": groups[:count]}
        )
        self.both[1].load_state_dict(
            {
                "state": {i - after: s for i, s in state.items() if i >= after},
                "param_groups": [{**g, "params": [i - after for i in g["params"]]} for g in groups[count:]],
            }
        )

    @property
    def _parameters_of_first(self) -> int:
        return sum(len(group["params"]) for group in self.both[0].param_groups)


@dataclass
class HybridUpdate(Update):
    """Each step is taken by the update whose turn it is; its row of the log says which (`turn`, 0 or 1)."""

    method: Hybrid
    updates: tuple[Update, Update]
    steps: int
    optimizer: InTurn = field(init=False)

    def __post_init__(self) -> None:
        first, second = self.updates
        self.optimizer = InTurn(first.optimizer, second.optimizer)

    def take(self, step: Step) -> dict[str, Any]:
        turn = self.method.turn(step.number, self.steps)
        return {
            **self.updates[turn].take(step),
            "turn": turn,
            "learning_rate": self.updates[turn].optimizer.param_groups[0]["lr"],
        }

    def state(self) -> dict[str, Any]:
        return {"first": self.updates[0].state(), "second": self.updates[1].state()}

    def restore(self, state: dict[str, Any]) -> None:
        self.updates[0].restore(state["first"])
        self.updates[1].restore(state["second"])


def hybrid_update(
    method: Hybrid, model: torch.nn.Module, course: Course, training: Unlearn, group: Group
) -> HybridUpdate:
    """The update of a model by two optimisers in turn."""
    first, second = (make_update(member, model, course, training, group) for member in method.members)
    return HybridUpdate(method, (first, second), course.steps)


TAKES = hybrid_update
