"""bf16 weights that move right in the mean: stochastic rounding."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from pipeline_lib.errors import UserError


def stochastic_round(values: torch.Tensor) -> torch.Tensor:
    """fp32 values rounded to one of their two bf16 neighbours, up with the probability that keeps the mean.

    bf16 is the upper half of fp32: a uniform number below 2^16 added to the bits carries into that half
    exactly as often as the lower half says. Values that bf16 can represent stay. Random numbers come
    from torch's global generator of the device.
    """
    noise = torch.randint(1 << 16, values.shape, dtype=torch.int32, device=values.device)
    bits = noise.add_(values.contiguous().view(torch.int32)).bitwise_and_(-1 << 16)
    rounded = torch.where(values.isfinite(), bits.view(torch.float32), values)
    return rounded.bfloat16()


class StochasticRounding(torch.optim.Optimizer):
    """Any optimiser over bf16 parameters, its arithmetic and states in fp32, its result rounded at random.

    A step of an optimiser on bf16 weights themselves is rounded to the nearest of them: a step shorter
    than half their spacing (|w| / 256 to |w| / 128) is lost, every time. Here it is taken with the
    probability step / spacing. Between steps the bf16 weights are all there is: the fp32 copies are
    working memory, filled from them anew.
    """

    def __init__(
        self,
        params: Sequence[dict[str, Any]],
        make_inner: Callable[[list[dict[str, Any]]], torch.optim.Optimizer],
    ):
        self._pairs: list[tuple[torch.Tensor, torch.Tensor]] = []
        wide_groups = []
        for group in params:
            copies = []
            for parameter in group["params"]:
                if parameter.dtype != torch.bfloat16:
                    raise UserError(
                        f"stochastic rounding is for bf16 weights, found {parameter.dtype}; "
                        "use the optimiser without it"
                    )
                copies.append(torch.nn.Parameter(parameter.detach().float()))
            self._pairs += zip(group["params"], copies, strict=True)
            wide_groups.append({**group, "params": copies})
        self.inner = make_inner(wide_groups)
        super().__init__(params, {})
        _copy_settings(self.inner.param_groups, self.param_groups)

    @property
    def statistics(self) -> dict[str, float]:
        return getattr(self.inner, "statistics", {})

    def update_curvature(self, estimate: Sequence[torch.Tensor]) -> None:
        with self._settings():
            self.inner.update_curvature(estimate)  # type: ignore[attr-defined]

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for parameter, wide in self._pairs:
            wide.copy_(parameter)
            wide.grad = None if parameter.grad is None else parameter.grad.float()
        with self._settings():
            self.inner.step()
        for parameter, wide in self._pairs:
            if wide.grad is not None:
                parameter.copy_(stochastic_round(wide))
                wide.grad = None

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
