"""An optimiser that keeps the mean of the weights after some of its steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

MEAN = "mean_of_weights"  # the name of the mean among an optimiser's states


class Averaging(torch.optim.Optimizer):
    """Any optimiser, and the mean of its parameters after the steps `start`, `start + every`, ... (from 1).

    Groups, settings and states are those of the inner optimiser. The means, in fp32 or wider, are states too,
    and the numbers of steps taken and averaged stand among the first group's settings, so that checkpoints
    hold both.
    """

    def __init__(self, inner: torch.optim.Optimizer, start: int, every: int):
        super().__init__(inner.param_groups, {})
        self.inner, self.start, self.every = inner, start, every
        self.param_groups = inner.param_groups
        self.param_groups[0].update(taken=0, averaged=0)
        self._means: list[torch.Tensor] = []

    @property
    def statistics(self) -> dict[str, float]:
        return getattr(self.inner, "statistics", {})

    def update_curvature(self, estimate: Sequence[torch.Tensor]) -> None:
        self.inner.update_curvature(estimate)  # type: ignore[attr-defined]

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        self.inner.step()
        counts = self.param_groups[0]
        counts["taken"] += 1
        if counts["taken"] < self.start or (counts["taken"] - self.start) % self.every:
            return
        counts["averaged"] += 1
        if not self._means:
            self._means = [p.detach().to(_wide(p), copy=True) for p in self._parameters]
        for mean, parameter in zip(self._means, self._parameters, strict=True):
            mean.lerp_(parameter.detach().to(mean.dtype), 1 / counts["averaged"])

    @torch.no_grad()
    def exchange(self) -> None:
        """Weights and means change places; nothing without a mean. Twice: as before, to the bit."""
        for mean, parameter in zip(self._means, self._parameters, strict=bool(self._means)):
            weights = parameter.detach().clone()
            parameter.copy_(mean)
            mean.copy_(weights)

    @property
    def _parameters(self) -> list[torch.Tensor]:
        return [parameter for group in self.param_groups for parameter in group["params"]]

    def state_dict(self) -> dict[str, Any]:
        content = self.inner.state_dict()
        state = {index: dict(held) for index, held in content["state"].items()}
        for index, mean in enumerate(self._means):
            state.setdefault(index, {})[MEAN] = mean
        return {**content, "state": state}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        states = {index: dict(held) for index, held in state_dict["state"].items()}
        found = {index: held.pop(MEAN) for index, held in states.items() if MEAN in held}
        kept = {index: held for index, held in states.items() if held}
        self.inner.load_state_dict({**state_dict, "state": kept})
        self.param_groups = self.inner.param_groups
        self._means = [
            found[index].to(parameter.device, _wide(parameter), copy=True)
            for index, parameter in enumerate(self._parameters)
            if found
        ]


def _wide(parameter: torch.Tensor) -> torch.dtype:
    return torch.promote_types(parameter.dtype, torch.float32)
