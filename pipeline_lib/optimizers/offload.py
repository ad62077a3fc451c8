"""The optimiser's step in the machine's memory: a GPU holds weights and gradients, and no states."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from pipeline_lib.optimizers.rounding import _copy_settings

Groups = list[dict[str, Any]]


class OnHost(torch.optim.Optimizer):
    """Any optimiser, its states and its arithmetic on the CPU, for parameters that may lie on a GPU.

    Every step copies weights and gradients to the machine's memory, steps there, and copies the weights
    back (the idea of ZeRO-Offload, Ren et al. 2021, arXiv 2101.06840). The arithmetic is that of the same
    optimiser without it: on a CPU the same bits, between CPU and GPU the rounding of their kernels. Beside
    the states the machine holds a copy of weights and gradients (page-locked where they come from a GPU).

    Why not a library's: torchao's offloading optimiser and bitsandbytes' paged ones are AdamW and its kin,
    on CUDA alone; this serves every optimiser here, Sophia's curvature included, and runs without a GPU.
    """

    def __init__(self, params: Groups, make_inner: Callable[[Groups], torch.optim.Optimizer]):
        self._pairs: list[tuple[torch.Tensor, torch.Tensor]] = []
        host_groups = []
        for group in params:
            copies = [torch.nn.Parameter(_on_host(parameter.detach())) for parameter in group["params"]]
            self._pairs += zip(group["params"], copies, strict=True)
            host_groups.append({**group, "params": copies})
        self.inner = make_inner(host_groups)
        super().__init__(params, {})
        _copy_settings(self.inner.param_groups, self.param_groups)

    @property
    def statistics(self) -> dict[str, float]:
        return getattr(self.inner, "statistics", {})

    def update_curvature(self, estimate: Sequence[torch.Tensor]) -> None:
        with self._settings():
            self.inner.update_curvature([value.cpu() for value in estimate])  # type: ignore[attr-defined]

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for parameter, copy in self._pairs:
            copy.copy_(parameter)  # it may come from a checkpoint, or be changed between steps
            copy.grad = None if parameter.grad is None else _on_host(parameter.grad)
        with self._settings():
            self.inner.step()
        for parameter, copy in self._pairs:
            if copy.grad is not None:
                parameter.copy_(copy)
                copy.grad = None

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


def _on_host(tensor: torch.Tensor) -> torch.Tensor:
    """A copy in the machine's memory; page-locked where it comes from a GPU, which copies faster."""
    copy = torch.empty_like(tensor, device="cpu", pin_memory=tensor.is_cuda)
    return copy.copy_(tensor)
