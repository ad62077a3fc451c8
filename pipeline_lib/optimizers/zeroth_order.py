"""Zeroth order: steps along random directions, from losses alone.

theta: the P parameters that learn. f: the objective on the step's batches. u: a random direction (P,) with
E[u u^T] = I. The two-point estimate of the gradient, with q queries,

    c_i = [f(theta + mu u_i) - f(theta - mu u_i)] / (2 mu),    g = (1/q) sum_i c_i u_i

is the gradient of f smoothed by mu u, without bias (Nesterov & Spokoiny 2017, doi 10.1007/s10208-015-9296-2,
eq. 26; Spall 1992 for the two points). A step is taken by `training/zeroth_order.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Literal

from pydantic import Field

from pipeline_lib.core.blocks import Count, Fraction, NonNegative, Positive, Share
from pipeline_lib.core.runs import Order
from pipeline_lib.optimizers.base import Optimizer
from pipeline_lib.optimizers.update import Group, Groups, TorchOptimizer


class ZerothOrder(Optimizer):
    """Base of optimisers that take no gradient: `update` moves coordinates along the estimate g.

    Directions are drawn again from their seeds wherever they are needed, as MeZO does (Malladi et al. 2023,
    arXiv 2305.17333, algorithm 1), and weights are moved in place. Beside its `states` a step therefore holds
    what inference holds. Moving there and back rounds: weights drift by about one unit in the last place.

    `directions`: "gaussian" for u ~ N(0, I); "sphere" for u uniform on the sphere of radius sqrt(P), that is
    mu sqrt(P) from theta. The norm of the gradient is estimated by sqrt(mean_i c_i^2), whose square has the
    mean |grad f|^2, and the slopes c_i are scaled so that it is at most `max_grad_norm`.
    """

    mu: Positive = Field(1e-3, description="Distance of the two points from the weights, along u")
    queries: Count = Field(1, description="Directions of a step, each with two forward passes")
    directions: Literal["gaussian", "sphere"] = "gaussian"
    weight_decay: NonNegative = 0.0

    order: ClassVar[Order] = "ZO"
    taken_by: ClassVar[str | None] = "pipeline_lib.training.zeroth_order"
    moves_zeros: ClassVar[bool] = True
    needs_fp32: ClassVar[str | None] = "its perturbations are smaller than the spacing of bf16 numbers"
    in_parts: ClassVar[str | None] = "its directions are drawn for whole tensors, and these are cut apart"
    on_device: ClassVar[str | None] = "it perturbs the weights where the model runs"
    states: ClassVar[tuple[str, ...]] = ()  # one tensor a parameter under each name
    begin: ClassVar[float] = 0.0  # what states hold at first
    bends: ClassVar[bool] = False  # f(theta) is measured too, and `update` is given the bend
    # (theta, gradient, bend where there is one, *states, *coefficients) -> the step without decay.
    # Changes theta and the states in place.
    update: ClassVar[Callable[..., Any]]

    @property
    def forward_passes(self) -> int:
        return 2 * self.queries + self.bends

    def coefficients(self, group: dict[str, Any]) -> tuple[float, ...]:
        """What `update` takes after the tensors, from the settings of a parameter group."""
        return group["lr"] * group["weight_decay"], group["lr"]

    def bent(self, direction: Any, states: Sequence[Any]) -> Any:
        """The direction in which a tensor moves, from its part of u and its states."""
        return direction

    def state_bytes(self, trained: float, embedding: float, width: int) -> float:
        return len(self.states) * trained * width

    def build(self, groups: Groups, parts: Group) -> TorchOptimizer:
        from pipeline_lib.optimizers.along_directions import AlongDirections

        return AlongDirections(groups, self)


def zo_sgd_update(theta, gradient, decay, lr):
    movement = lr * gradient
    theta.sub_(decay * theta + movement)
    return movement


class ZOSGD(ZerothOrder):
    """theta = (1 - lr wd) theta - lr g (MeZO, arXiv 2305.17333, algorithm 1; without momentum, as there)."""

    kind: Literal["zo_sgd"]

    display: ClassVar[str] = "ZO-SGD"
    update: ClassVar[Callable[..., Any]] = staticmethod(zo_sgd_update)


def zo_adamm_update(theta, gradient, average, square, largest, decay, lr, weight, rest, eps):
    average.lerp_(gradient, weight)
    square.lerp_(gradient.square(), rest)
    largest.copy_(largest.maximum(square))
    movement = lr * average / (largest.sqrt() + eps)
    theta.sub_(decay * theta + movement)
    return movement


class _Adaptive(ZerothOrder):
    """Base of the two whose steps are divided by a second average."""

    beta1: Share = 0.9
    beta2: Share = 0.99
    eps: Positive = 1e-8

    def coefficients(self, group: dict[str, Any]) -> tuple[float, ...]:
        return *super().coefficients(group), 1 - group["beta1"], 1 - group["beta2"], group["eps"]


class ZOAdaMM(_Adaptive):
    """m = b1 m + (1 - b1) g;  v = b2 v + (1 - b2) g^2;  w = max(w, v);  theta -= lr m / (sqrt(w) + eps).

    Source: Chen et al. 2019, arXiv 1910.06513, algorithm 1, without constraints; eps and decoupled weight
    decay are ours. Averages are not corrected for their start at 0, as there.
    """

    kind: Literal["zo_adamm"]

    display: ClassVar[str] = "ZO-AdaMM"
    states: ClassVar[tuple[str, ...]] = ("average", "square", "largest")
    update: ClassVar[Callable[..., Any]] = staticmethod(zo_adamm_update)


def r_adazo_update(theta, gradient, average, square, decay, lr, weight, rest, eps):
    average.lerp_(gradient, weight)
    square.lerp_(average.square(), rest)
    movement = lr * average * (square + eps).rsqrt()
    theta.sub_(decay * theta + movement)
    return movement


class RAdaZO(_Adaptive):
    """m = b1 m + (1 - b1) g;  v = b2 v + (1 - b2) m^2;  theta -= lr m / sqrt(v + eps).

    Source: Shu et al. 2025, arXiv 2502.01014, algorithm 1: the second average is of the first one's square,
    whose noise is smaller than g^2's. Averages are not corrected for their start at 0, as there: the first
    step is 1 / sqrt(1 - b2) times lr. The paper differences forward, from theta; here both sides are
    measured. Decoupled weight decay is ours.
    """

    kind: Literal["r_adazo"]

    display: ClassVar[str] = "R-AdaZO"
    states: ClassVar[tuple[str, ...]] = ("average", "square")
    update: ClassVar[Callable[..., Any]] = staticmethod(r_adazo_update)


def hizoo_update(theta, gradient, bend, curvature, decay, lr, alpha):
    curvature.lerp_(curvature * bend, alpha)
    movement = lr * gradient
    theta.sub_(decay * theta + movement)
    return movement


class HiZOO(ZerothOrder):
    """ZO-SGD along directions that are short where f bends: u_i / sqrt(h) in place of u_i.

        d_i = f(theta + mu u_i / sqrt(h)) + f(theta - mu u_i / sqrt(h)) - 2 f(theta)
        h = (1 - alpha) h + alpha (1/q) sum_i |d_i| / (2 mu^2) h u_i^2,    h = 1 at first
        theta = (1 - lr wd) theta - lr (1/q) sum_i c_i u_i / sqrt(h)

    Source: Zhao et al. 2025, arXiv 2402.15173, algorithm 1, with h for the diagonal of Sigma^-1. A step uses
    the h along which its losses were measured (`open`: the released code uses the new one).
    """

    kind: Literal["hizoo"]
    alpha: Fraction = Field(1e-6, description="Weight of a new estimate of the curvature")

    display: ClassVar[str] = "HiZOO"
    states: ClassVar[tuple[str, ...]] = ("curvature",)
    begin: ClassVar[float] = 1.0
    bends: ClassVar[bool] = True
    update: ClassVar[Callable[..., Any]] = staticmethod(hizoo_update)

    def coefficients(self, group: dict[str, Any]) -> tuple[float, ...]:
        return *super().coefficients(group), group["alpha"]

    def bent(self, direction: Any, states: Sequence[Any]) -> Any:
        return direction * states[0].rsqrt()
