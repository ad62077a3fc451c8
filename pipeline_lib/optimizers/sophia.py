"""Sophia, the published algorithm and the one SOUL's released code runs.

theta parameters, g gradient, m its average, h average of the diagonal curvature estimate.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch

from pipeline_lib.optimizers.elementwise import chunks


class _ClippedNewton(torch.optim.Optimizer):
    """What both forms share: state m and h, and the count of clipped coordinates."""

    clipped_share: float | None = None  # of the last step, over all coordinates

    def _state(self, parameter: torch.Tensor) -> dict[str, Any]:
        state = self.state[parameter]
        if not state:
            state["momentum"] = torch.zeros_like(parameter)
            state["curvature"] = torch.zeros_like(parameter)
        return state

    def _parameters(self) -> list[torch.Tensor]:
        return [parameter for group in self.param_groups for parameter in group["params"]]

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        clipped: torch.Tensor | int = 0
        total = 0
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self._state(parameter)
                arrays = (parameter, parameter.grad, state["momentum"], state["curvature"])
                for theta, gradient, momentum, curvature in chunks(*arrays):
                    denominator = self._update_averages(gradient, momentum, curvature, group)
                    clipped = clipped + (momentum.abs() >= denominator).sum()
                    ratio = momentum.div(denominator).clamp_(-1, 1)
                    theta.mul_(1 - group["lr"] * group["weight_decay"])
                    theta.add_(ratio, alpha=-group["lr"])
                total += parameter.numel()
        self.clipped_share = float(clipped) / max(total, 1)

    def _update_averages(
        self, gradient: torch.Tensor, momentum: torch.Tensor, curvature: torch.Tensor, group: dict[str, Any]
    ) -> torch.Tensor:
        """Update the averages in place and return what m is divided by."""
        raise TypeError(f"{type(self).__name__} does not define its averages")


class Sophia(_ClippedNewton):
    """Published Sophia (Liu et al. 2023, arXiv 2305.14342, algorithm 3).

    m = b1 m + (1 - b1) g;  h = b2 h + (1 - b2) h_hat, every k steps, through `update_curvature`;
    theta = (1 - lr wd) theta - lr clip(m / max(gamma h, eps), 1).

    Without an estimate yet h is 0 and the step is Signum's.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float,
        beta1: float,
        beta2: float,
        gamma: float,
        eps: float,
        weight_decay: float,
    ):
        super().__init__(
            params,
            {
                "lr": lr,
                "beta1": beta1,
                "beta2": beta2,
                "gamma": gamma,
                "eps": eps,
                "weight_decay": weight_decay,
            },
        )

    @torch.no_grad()
    def update_curvature(self, estimate: Sequence[torch.Tensor]) -> None:
        """Average one non-negative estimate a parameter, in the order of the parameter groups, into h."""
        groups = [group for group in self.param_groups for _ in group["params"]]
        for parameter, group, value in zip(self._parameters(), groups, estimate, strict=True):
            self._state(parameter)["curvature"].lerp_(value, 1 - group["beta2"])

    def _update_averages(self, gradient, momentum, curvature, group):
        momentum.lerp_(gradient, 1 - group["beta1"])
        return (curvature * group["gamma"]).clamp_(min=group["eps"])


class SophiaAsReleased(_ClippedNewton):
    """The optimiser in SOUL's released code (OPTML-Group/SOUL, src/optim/sophia.py), step by step.

    Every step: h = b2 h + (1 - b2) g^2, with g the gradient of the unlearning loss itself, clipped;
    m = b1 m + (1 - b1) g, twice; theta = (1 - lr wd) theta - lr clip(m / (rho * 5120 * h + 1e-15), 1).
    5120 is a constant there, whatever the batch; labels are never drawn from the model.
    """

    BATCH_CONSTANT = 5120

    def __init__(
        self,
        params: Iterable[Any],
        lr: float,
        beta1: float,
        beta2: float,
        rho: float,
        weight_decay: float,
    ):
        super().__init__(
            params, {"lr": lr, "beta1": beta1, "beta2": beta2, "rho": rho, "weight_decay": weight_decay}
        )

    def _update_averages(self, gradient, momentum, curvature, group):
        curvature.mul_(group["beta2"]).addcmul_(gradient, gradient, value=1 - group["beta2"])
        # Two averages with b1 and the same gradient are one with b1 squared.
        momentum.lerp_(gradient, 1 - group["beta1"] ** 2)
        return (curvature * (group["rho"] * self.BATCH_CONSTANT)).add_(1e-15)
