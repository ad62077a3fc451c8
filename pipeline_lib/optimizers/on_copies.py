"""An optimiser that steps on copies of the parameters, which take over the result: the base of two others."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import torch

Groups = Sequence[dict[str, Any]]
Pair = tuple[torch.Tensor, torch.Tensor]  # a parameter and its copy
Found = TypeVar("Found")


class OnCopies(torch.optim.Optimizer):
    """Any optimiser over copies of the parameters.

    Between steps only the parameters count: they may come from a checkpoint, and the copies are filled from
    them anew. Settings and states are those of the inner optimiser, in the groups of this one.
    """

    def __init__(self, params: Groups, make_inner: Callable[[list[dict[str, Any]]], torch.optim.Optimizer]):
        self._pairs: list[Pair] = []
        groups_of_copies = []
        for group in params:
            copies = [torch.nn.Parameter(self._copy(parameter.detach())) for parameter in group["params"]]
            self._pairs += zip(group["params"], copies, strict=True)
            groups_of_copies.append({**group, "params": copies})
        self.inner = make_inner(groups_of_copies)
        super().__init__(params, {})
        _copy_settings(self.inner.param_groups, self.param_groups)

    def _copy(self, tensor: torch.Tensor) -> torch.Tensor:
        """What the inner optimiser gets for a weight, a gradient or an estimate of the curvature."""
        raise TypeError(f"{type(self).__name__} does not say what it copies")

    def _back(self, copy: torch.Tensor) -> torch.Tensor:
        """What a parameter takes over from its copy after a step."""
        return copy

    @property
    def statistics(self) -> dict[str, float]:
        return getattr(self.inner, "statistics", {})

    def update_curvature(self, estimate: Sequence[torch.Tensor]) -> None:
        with self._settings():
            self.inner.update_curvature([self._copy(value) for value in estimate])  # type: ignore[attr-defined]

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        with self._settings():
            self._step_of(self._pairs, self.inner.step)

    def _step_of(self, pairs: Sequence[Pair], step: Callable[[], Found]) -> Found:
        """Let `step`, the inner optimiser's, see these parameters alone; returns what it returns."""
        for parameter, copy in pairs:
            copy.copy_(parameter)
            copy.grad = None if parameter.grad is None else self._copy(parameter.grad)
        found = step()
        for parameter, copy in pairs:
            if copy.grad is not None:
                parameter.copy_(self._back(copy))
                copy.grad = None
        return found

    @contextmanager
    def _settings(self) -> Iterator[None]:
        """Let the inner optimiser work with the settings of these groups, and show what it adapts."""
        _copy_settings(self.param_groups, self.inner.param_groups)
        yield
        _copy_settings(self.inner.param_groups, self.param_groups)

    def state_dict(self) -> dict[str, Any]:
        _copy_settings(self.param_groups, self.inner.param_groups)
        return self.inner.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.inner.load_state_dict(state_dict)
        _copy_settings(self.inner.param_groups, self.param_groups)


def _copy_settings(source: list[dict[str, Any]], target: list[dict[str, Any]]) -> None:
    for group, other in zip(source, target, strict=True):
        other.update({key: value for key, value in group.items() if key != "params"})
