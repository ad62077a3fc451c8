"""Sophia, the published algorithm and the one SOUL's released code runs.

theta parameters, g gradient, m its average, h average of the diagonal curvature estimate.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, model_validator

from pipeline_lib.core.blocks import (
    Count,
    CountOrAuto,
    Faults,
    Fraction,
    NonNegative,
    Positive,
    PositiveOrAuto,
    Share,
)
from pipeline_lib.curvature import ESTIMATORS
from pipeline_lib.optimizers.base import Curvature, CurvatureData
from pipeline_lib.optimizers.clipped_newton import ClippedNewton
from pipeline_lib.optimizers.update import Group, Groups, TorchOptimizer, Twin, Update

if TYPE_CHECKING:
    EstimatorName = str
else:
    EstimatorName = ESTIMATORS.names()

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
    return _move(theta, momentum, (gamma * curvature).maximum(eps), decay, lr)


def released_update(theta, gradient, momentum, curvature, decay, lr, weight, keep, rest, scale, eps):
    curvature.mul_(keep).add_(rest * gradient.square())
    momentum.lerp_(gradient, weight)
    return _move(theta, momentum, scale * curvature + eps, decay, lr)


class Sophia(ClippedNewton):
    """Published Sophia (Liu et al. 2023, arXiv 2305.14342, algorithm 3).

    m = b1 m + (1 - b1) g;  h = b2 h + (1 - b2) h_hat, every k steps, through `update_curvature`;
    theta = (1 - lr wd) theta - lr clip(m / max(gamma h, eps), 1).

    Before the first estimate h is 0 and the step is Signum's. A negative h (which a Hutchinson estimate may
    give) counts as none: max(gamma h, eps) is eps.

    `gamma` "auto" holds the clipped share at `clipped_target` (ours, not in the paper). gamma starts at
    0.05. After each step, once there is an estimate,

        ln gamma = ln gamma + clip((logit(share) - logit(target)) / 2, ln 2),

    half the difference in log-odds and at most a factor of two a step: ten steps reach a gamma a thousand
    times as large or small. Shares of 0 and 1 need no special rule. Coordinates without gradient (embeddings
    of unseen tokens) are never clipped, so a target above the share of coordinates that have one cannot be
    reached, and gamma falls until all of those are clipped.

    Defaults are the published constants (section 3.1, Sophia-G).
    """

    kind: Literal["sophia"]
    beta1: Share = 0.96
    beta2: Share = 0.99
    gamma: PositiveOrAuto = Field(
        0.05, description="Curvature scale; a larger one clips fewer coordinates; auto holds `clipped_target`"
    )
    clipped_target: Fraction | None = Field(
        None, description="Share of coordinates to clip; with `gamma: auto` only"
    )
    eps: Positive = 1e-12
    weight_decay: NonNegative = 0.0
    estimator: EstimatorName = "gauss_newton_bartlett"
    update_every: CountOrAuto = Field(
        10, description="Steps between curvature estimates; auto holds `drift_target`"
    )
    drift_target: Fraction | None = Field(
        None,
        description="Relative change of the curvature at a refresh; with `update_every: auto` only",
    )
    curvature_data: CurvatureData = "both"
    curvature_examples: Count | None = Field(
        None,
        description="Examples of each set of a step on which the curvature is measured, drawn anew for every "
        "estimate; all of them where left out",
    )

    display: ClassVar[str] = "Sophia"
    update: ClassVar[Update] = staticmethod(published_update)
    twin: ClassVar[Twin | None] = Twin("published_update", 2, 1, 2, (0.1, 0.5, 0.2937, 2.0, 0.1))

    @model_validator(mode="after")
    def _fits(self) -> Sophia:
        faults = []
        for setting, goal in (("gamma", "clipped_target"), ("update_every", "drift_target")):
            automatic = getattr(self, setting) == "auto"
            if automatic and getattr(self, goal) is None:
                faults.append((goal, f"`{setting}: auto` needs it: a number between 0 and 1, such as 0.5"))
            if not automatic and getattr(self, goal) is not None:
                faults.append(
                    (goal, f"goes with `{setting}: auto`, and `{setting}` is {getattr(self, setting)}")
                )
        faults += self.curvature.estimator.faults(self.curvature_data, self.curvature_examples)
        if faults:
            raise Faults(faults)
        return self

    @property
    def curvature(self) -> Curvature:
        return Curvature(
            ESTIMATORS.parse({"kind": self.estimator}),
            self.update_every,
            self.drift_target,
            self.curvature_data,
            self.curvature_examples,
            self.arrangement,
        )

    def settings(self) -> dict[str, Any]:
        of_curvature = ("estimator", "update_every", "drift_target", "curvature_data", "curvature_examples")
        return {
            **{name: value for name, value in super().settings().items() if name not in of_curvature},
            "gamma": GAMMA_START if self.gamma == "auto" else self.gamma,
            "estimates": 0,  # taken into h so far
        }

    def coefficients(self, group: dict[str, Any]) -> tuple[float, ...]:
        decay = group["lr"] * group["weight_decay"]
        return decay, group["lr"], 1 - group["beta1"], group["gamma"], group["eps"]

    def statistics(self, groups: Groups, sums: Sequence[float], coordinates: int) -> dict[str, float]:
        found = {**super().statistics(groups, sums, coordinates), "gamma": groups[0]["gamma"]}
        for group in groups:
            if group["clipped_target"] is not None and group["estimates"] > 0:
                group["gamma"] = adapted_gamma(
                    group["gamma"], found["clipped_share"], group["clipped_target"]
                )
        return found


def adapted_gamma(gamma: float, share: float, target: float) -> float:
    """The next gamma after a step that clipped this share; the rule is in `Sophia`'s docstring."""
    difference = _logit(share) - _logit(target)
    limit = math.log(2)
    changed = gamma * math.exp(min(max(difference / 2, -limit), limit))
    return min(max(changed, GAMMA_RANGE[0]), GAMMA_RANGE[1])


def _logit(share: float) -> float:
    edge = math.copysign(math.inf, share - 0.5)
    return edge if share in (0.0, 1.0) else math.log(share / (1 - share))


class SophiaAsReleased(ClippedNewton):
    """The optimiser in SOUL's released code (OPTML-Group/SOUL, src/optim/sophia.py), step by step.

    Every step: h = b2 h + (1 - b2) g^2, with g the gradient of the unlearning loss itself, clipped;
    m = b1 m + (1 - b1) g, twice; theta = (1 - lr wd) theta - lr clip(m / (rho * 5120 * h + 1e-15), 1).
    5120 is a constant there, whatever the batch; labels are never drawn from the model. Defaults are the
    constants of that code.
    """

    BATCH_CONSTANT: ClassVar[int] = 5120

    kind: Literal["sophia_as_released"]
    beta1: Share = 0.9
    beta2: Share = 0.95
    rho: Positive = 0.04
    weight_decay: NonNegative = 0.0

    display: ClassVar[str] = "Sophia (as released)"
    update: ClassVar[Update] = staticmethod(released_update)
    twin: ClassVar[Twin | None] = Twin("released_update", 2, 2, 2, (0.1, 0.5, 0.7063, 0.9, 0.1, 3.0, 0.1))

    def coefficients(self, group: dict[str, Any]) -> tuple[float, ...]:
        decay = group["lr"] * group["weight_decay"]
        weight = 1 - group["beta1"] ** 2  # two averages with b1 and the same gradient are one with b1 squared
        # Arranged squares are in h already.
        keep = group["beta2"] if self.arrangement is None else 1.0
        scale = group["rho"] * self.BATCH_CONSTANT
        return decay, group["lr"], weight, keep, 1 - keep, scale, 1e-15

    def build(self, groups: Groups, parts: Group) -> TorchOptimizer:
        if self.arrangement is None:
            return super().build(groups, parts)
        from pipeline_lib.optimizers.sophia_controls import ArrangedSquares

        return ArrangedSquares(groups, self, self.arrangement, parts)
