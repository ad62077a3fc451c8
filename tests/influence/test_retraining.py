"""The damped Newton step on a convex model reproduces retraining without the points to second order."""

from __future__ import annotations

import math
from itertools import pairwise
from types import SimpleNamespace

import pytest
import torch

from pipeline_lib.data.batching import Example, micro_batches
from pipeline_lib.influence.newton import newton_direction
from pipeline_lib.objectives.base import mean_nll
from tests.influence.cases import Regression, dense_gauss_newton
from tests.tiny import in_float64

N, REMOVED, RIDGE = 60, 6, 0.05


def task() -> tuple[Regression, list[Example]]:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(N, 4, generator=generator)
    features[:, 0] = 1  # the intercept
    noisy = features[:, 1] - features[:, 2] + 0.5 * torch.randn(N, generator=generator)
    labels = (noisy > 0).long().tolist()
    return Regression(features, 2), [Example((i, labels[i]), 1, i) for i in range(N)]


def slope(model: Regression, examples: list[Example], removed: float) -> torch.Tensor:
    """Gradient of (sum of all NLL - removed * sum of the first points' NLL) / N + RIDGE / 2 |theta|^2."""

    def summed(rows):
        return mean_nll(model, micro_batches(rows, N, 0)[0]) * len(rows)

    loss = (summed(examples) - removed * summed(examples[:REMOVED])) / N
    return torch.autograd.grad(loss, model.head.weight)[0].flatten() + RIDGE * model.head.weight.flatten()


def retrain(model: Regression, examples: list[Example], removed: float) -> torch.Tensor:
    """The exact minimum with the first points' weight lowered by `removed`, by Newton's method."""
    weight = model.head.weight
    for _ in range(8):
        kept = dense_gauss_newton(model, examples[REMOVED:], [weight]) * (N - REMOVED)
        gone = dense_gauss_newton(model, examples[:REMOVED], [weight]) * REMOVED * (1 - removed)
        hessian = (kept + gone) / N + RIDGE * torch.eye(weight.numel())
        step = torch.linalg.solve(hessian, slope(model, examples, removed).detach())
        with torch.no_grad():
            weight -= step.view_as(weight)
    assert slope(model, examples, removed).norm() < 1e-13
    return weight.detach().flatten().clone()


@in_float64()
@pytest.mark.parametrize("kind", ["conjugate_gradient", "lissa"])
def test_newton_step_equals_retraining_to_second_order(kind):
    """Error: a quarter for half the removed weight, far below that of the best step along the gradient."""
    model, examples = task()
    trained = retrain(model, examples, 0.0)
    shares = [1.0, 0.5, 0.25, 0.125]
    errors, gradient_errors = [], []
    for removed in shares:
        retrained = retrain(model, examples, removed)
        with torch.no_grad():
            model.head.weight.copy_(trained.view_as(model.head.weight))
        gradient = slope(model, examples, removed).detach()
        x, report = newton_direction(
            model,
            micro_batches(examples, 16, 0),
            [model.head.weight],
            gradient,
            SimpleNamespace(
                solver=kind, damping=RIDGE, max_iterations=1000, tolerance=1e-10
            ),  # the regulariser's Hessian is the damping
            torch.Generator(),
            lambda: None,
        )
        assert report.converged
        moved = retrained - trained
        errors.append(float((moved + x).norm()))
        along = gradient * (moved @ gradient) / (gradient @ gradient)
        gradient_errors.append(float((moved - along).norm()))
    logs = torch.tensor([[math.log(s), math.log(e)] for s, e in zip(shares, errors, strict=True)])
    centred = logs - logs.mean(0)
    order = float((centred[:, 0] @ centred[:, 1]) / centred[:, 0].square().sum())
    assert 1.85 < order < 2.25, errors
    assert all(3 < big / small < 5.5 for big, small in pairwise(errors)), errors
    assert errors[0] < gradient_errors[0], (errors, gradient_errors)
    assert errors[-1] < 0.1 * gradient_errors[-1], (errors, gradient_errors)
