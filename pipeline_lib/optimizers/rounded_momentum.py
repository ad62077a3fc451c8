"""The torch optimiser of `quantised_sgd`."""

from __future__ import annotations

from typing import Any

import torch


class RoundedMomentum(torch.optim.Optimizer):
    """Steps along a momentum on a few levels; the equation stands at `quantised_sgd.QuantisedSGD`.

    Half precision is computed in fp32 and rounded to nearest once, as for all our optimisers. Working memory:
    four copies of the largest tensor.
    """

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    state = self.state[parameter]
                    if not state:
                        state["momentum"] = torch.zeros_like(parameter)
                    _step(parameter, state["momentum"], group)


def on_levels(values: torch.Tensor, bits: int) -> torch.Tensor:
    """Values in [-1, 1]: each divided by the largest magnitude, on the nearest of 2^bits levels; 0 stays."""
    top = 2**bits - 1
    largest = values.abs().max().clamp(min=torch.finfo(values.dtype).tiny)
    below = (values.abs() / largest).mul_(top / 2).floor_()  # levels of its sign that are nearer to 0
    return below.mul_(2).add_(1).div_(top).mul_(values.sign())


def _step(parameter: torch.Tensor, momentum: torch.Tensor, settings: dict[str, Any]) -> None:
    """One step of a tensor, in place, with its momentum; in the order of Signum's arithmetic."""
    wide = torch.promote_types(parameter.dtype, torch.float32)
    theta, average = parameter.to(wide), momentum.to(wide)
    coefficients = settings["lr"] * settings["weight_decay"], settings["lr"], 1 - settings["momentum"]
    decay, rate, weight = torch.tensor(coefficients, dtype=wide, device=parameter.device)
    average.lerp_(parameter.grad.to(wide), weight)  # type: ignore[union-attr]
    theta.sub_(decay * theta + rate * on_levels(average, settings["bits"]))
    parameter.copy_(theta)
    momentum.copy_(average)
