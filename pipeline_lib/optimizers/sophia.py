"""Sophia, the published algorithm and the one SOUL's released code runs.

theta parameters, g gradient, m its average, h average of the diagonal curvature estimate.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import torch

from pipeline_lib.errors import UserError
from pipeline_lib.optimizers.elementwise import ElementwiseOptimizer

GAMMA_START = 0.05  # of `gamma: auto`: the published constant
GAMMA_RANGE = (1e-12, 1e12)  # far beyond any use: only keeps gamma from 0 and infinity


def _move(theta, momentum, denominator, decay, lr):
    """theta = (1 - decay) theta - lr clip(m / denominator, 1); the squared step, and which are clipped."""
    ratio = momentum / denominator
    movement = lr * ratio.clamp(-1, 1)
    theta.sub_(decay * theta + movement)
    return movement.square(), ratio.abs() >= 1


def published_update(theta, gradient, momentum, curvature, decay, lr, weight, gamma, eps):
    momentum.lerp_(gradient, weight)
    return _move(theta, momentum, torch.maximum(gamma * curvature, eps), decay, lr)


def released_update(theta, gradient, momentum, curvature, decay, lr, weight, keep, rest, scale, eps):
    curvature.mul_(keep).add_(rest * gradient.square())
    momentum.lerp_(gradient, weight)
    return _move(theta, momentum, scale * curvature + eps, decay, lr)


class _ClippedNewton(ElementwiseOptimizer):
    """What both forms share: state m and h, and the exact share of clipped coordinates."""

    states = ("momentum", "curvature")

    def summarize(self, sums: list[float], coordinates: int) -> None:
        super().summarize(sums, coordinates)
        self.statistics["clipped_share"] = sums[1] / coordinates


class Sophia(_ClippedNewton):
    """Published Sophia (Liu et al. 2023, arXiv 2305.14342, algorithm 3).

    m = b1 m + (1 - b1) g;  h = b2 h + (1 - b2) h_hat, every k steps, through `update_curvature`;
    theta = (1 - lr wd) theta - lr clip(m / max(gamma h, eps), 1).

    Without an estimate yet h is 0 and the step is Signum's. A negative h (a Hutchinson estimate may be
    one) counts as none: max(gamma h, eps) is eps.

    `gamma` "auto" holds the clipped share at `clipped_target` (ours, not in the paper). gamma starts at
    0.05. After each step, once there is an estimate,

        ln gamma = ln gamma + clip((logit(share) - logit(target)) / 2, ln 2),

    half the difference in log-odds and at most a factor of two a step: ten steps reach a gamma a
    thousand times off. The logit makes a share of 0 or 1 an answer like any other. Coordinates without
    gradient (embeddings of unseen tokens) are never clipped, so a target above the share of those that
    have one cannot be reached, and gamma falls until all of these are clipped.
    """

    update = staticmethod(published_update)

    def __init__(
        self,
        params: Iterable[Any],
        lr: float,
        beta1: float,
        beta2: float,
        gamma: float | Literal["auto"],
        clipped_target: float | None,
        eps: float,
        weight_decay: float,
    ):
        if (gamma == "auto") != (clipped_target is not None):
            raise UserError(
                f"Sophia needs clipped_target with gamma auto, and only then; found gamma {gamma!r} and "
                f"clipped_target {clipped_target!r}"
            )
        super().__init__(
            params,
            lr=lr,
            beta1=beta1,
            beta2=beta2,
            gamma=GAMMA_START if gamma == "auto" else gamma,
            clipped_target=clipped_target,
            eps=eps,
            weight_decay=weight_decay,
            estimates=0,  # taken into h so far
        )

    @torch.no_grad()
    def update_curvature(self, estimate: Sequence[torch.Tensor]) -> None:
        """Average one finite estimate a parameter, in the order of the parameter groups, into h."""
        pairs = [(group, parameter) for group in self.param_groups for parameter in group["params"]]
        for (group, parameter), value in zip(pairs, estimate, strict=True):
            curvature = self.state_of(parameter)["curvature"]
            curvature.lerp_(value.to(curvature.dtype), 1 - group["beta2"])
        for group in self.param_groups:
            group["estimates"] += 1

    def coefficients(self, group: dict[str, Any]) -> tuple[float, ...]:
        decay = group["lr"] * group["weight_decay"]
        return decay, group["lr"], 1 - group["beta1"], group["gamma"], group["eps"]

    def summarize(self, sums: list[float], coordinates: int) -> None:
        super().summarize(sums, coordinates)
        self.statistics["gamma"] = self.param_groups[0]["gamma"]
        for group in self.param_groups:
            if group["clipped_target"] is not None and group["estimates"] > 0:
                group["gamma"] = adapted_gamma(
                    group["gamma"], self.statistics["clipped_share"], group["clipped_target"]
                )


def adapted_gamma(gamma: float, share: float, target: float) -> float:
    """The next gamma after a step that clipped this share; the rule is in `Sophia`'s docstring."""
    difference = _logit(share) - _logit(target)
    limit = math.log(2)
    changed = gamma * math.exp(min(max(difference / 2, -limit), limit))
    return min(max(changed, GAMMA_RANGE[0]), GAMMA_RANGE[1])


def _logit(share: float) -> float:
    if share in (0.0, 1.0):
        return math.copysign(math.inf, share - 0.5)
    return math.log(share / (1 - share))


class SophiaAsReleased(_ClippedNewton):
    """The optimiser in SOUL's released code (OPTML-Group/SOUL, src/optim/sophia.py), step by step.

    Every step: h = b2 h + (1 - b2) g^2, with g the gradient of the unlearning loss itself, clipped;
    m = b1 m + (1 - b1) g, twice; theta = (1 - lr wd) theta - lr clip(m / (rho * 5120 * h + 1e-15), 1).
    5120 is a constant there, whatever the batch; labels are never drawn from the model.
    """

    BATCH_CONSTANT = 5120
    update = staticmethod(released_update)

    def __init__(
        self,
        params: Iterable[Any],
        lr: float,
        beta1: float,
        beta2: float,
        rho: float,
        weight_decay: float,
    ):
        super().__init__(params, lr=lr, beta1=beta1, beta2=beta2, rho=rho, weight_decay=weight_decay)

    def coefficients(self, group: dict[str, Any]) -> tuple[float, ...]:
        decay = group["lr"] * group["weight_decay"]
        weight = 1 - group["beta1"] ** 2  # two averages with b1 and the same gradient are one with b1 squared
        keep, scale = group["beta2"], group["rho"] * self.BATCH_CONSTANT
        return decay, group["lr"], weight, keep, 1 - keep, scale, 1e-15
