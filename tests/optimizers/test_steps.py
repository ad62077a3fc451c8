"""Single steps worked by hand, and the released Sophia against the released formula."""

from __future__ import annotations

import pytest
import torch

from tests.methods import stepper


def vector(*values: float) -> torch.nn.Parameter:
    return torch.nn.Parameter(torch.tensor(values, dtype=torch.float64))


def step(optimizer, parameter, *gradient: float) -> list[float]:
    parameter.grad = torch.tensor(gradient, dtype=parameter.dtype)
    optimizer.step()
    return parameter.tolist()


# --- Signum ---------------------------------------------------------------------------------------


def test_signum_by_hand():
    theta = vector(1.0, -1.0, 2.0)
    optimizer = stepper("signum", [theta], lr=0.1, momentum=0.9, weight_decay=0.5)
    # m = 0.1 g: signs +, -, 0; theta (1 - 0.05) -+ 0.1
    assert step(optimizer, theta, 0.5, -3.0, 0.0) == pytest.approx([0.85, -0.85, 1.9])
    # m = 0.045 - 0.2 < 0;  -0.27 + 0.1 < 0;  0 + 1e-9 > 0
    assert step(optimizer, theta, -2.0, 1.0, 1e-8) == pytest.approx([0.9075, -0.7075, 1.705])
    assert optimizer.state[theta]["momentum"].tolist() == pytest.approx([-0.155, -0.17, 1e-9])


# --- Lion, SGD ------------------------------------------------------------------------------------


def test_lion_by_hand():
    theta = vector(1.0, -1.0, 2.0)
    optimizer = stepper("lion", [theta], lr=0.1, beta1=0.9, beta2=0.5, weight_decay=0.5)
    # 0.1 g: signs +, -, 0; then m = g / 2 = (0.25, -1.5, 0)
    assert step(optimizer, theta, 0.5, -3.0, 0.0) == pytest.approx([0.85, -0.85, 1.9])
    assert optimizer.statistics == {"update_norm": pytest.approx(0.1 * 2**0.5)}
    # 0.9 m + 0.1 g = (0.025, -1.15, 1e-9); m = m / 2 + g / 2: the step looks at the average before
    assert step(optimizer, theta, -2.0, 2.0, 1e-8) == pytest.approx([0.7075, -0.7075, 1.705])
    assert optimizer.state[theta]["momentum"].tolist() == pytest.approx([-0.875, 0.25, 5e-9])


def test_sgd_by_hand():
    theta = vector(1.0, 2.0)
    optimizer = stepper("sgd", [theta], lr=0.1, momentum=0.5, weight_decay=0.5)
    # m = (1, -2), theta = 0.95 theta - 0.1 m
    assert step(optimizer, theta, 1.0, -2.0) == pytest.approx([0.85, 2.1])
    assert optimizer.statistics == {"update_norm": pytest.approx(0.1 * 5**0.5)}
    # m = (0.5, 3)
    assert step(optimizer, theta, 0.0, 4.0) == pytest.approx([0.7575, 1.695])


# --- Sophia ---------------------------------------------------------------------------------------


def published(theta: torch.nn.Parameter, **settings: float):
    return stepper("sophia", [theta], clipped_target=None, **settings)


def test_sophia_by_hand():
    theta = vector(1.0, 1.0, 1.0, 1.0)
    optimizer = published(theta, lr=0.1, beta1=0.5, beta2=0.5, gamma=0.5, eps=1e-3, weight_decay=0.5)
    optimizer.update_curvature([torch.tensor([4.0, 1.0, 1.0, 0.0], dtype=torch.float64)])
    # h = (2, 1/2, 1/2, 0), gamma h = (1, 1/4, 1/4, 0 -> eps), m = g / 2 = (0.1, 2, -2, -1e-4)
    # ratio = (0.1, 8 -> 1, -8 -> -1, -0.1); theta = 0.95 - 0.1 ratio
    assert step(optimizer, theta, 0.2, 4.0, -4.0, -2e-4) == pytest.approx([0.94, 0.85, 1.05, 0.96])
    # the step without decay is 0.1 * (0.1, 1, -1, -0.1)
    norm = pytest.approx(0.0202**0.5)
    share = pytest.approx(2 / 2.02)  # two of the squares 0.01, 1, 1, 0.01 are clipped
    facts = {"clipped_share": 0.5, "clipped_norm_share": share, "update_norm": norm, "gamma": 0.5}
    assert optimizer.statistics == facts
    # m = (0.05, 1, -1, -5e-5) + g / 2 = (2.05, 0, 1, -5e-5), h unchanged without an estimate
    # ratio = (1, 0, 1, -0.05)
    expected = [0.94 * 0.95 - 0.1, 0.85 * 0.95, 1.05 * 0.95 - 0.1, 0.96 * 0.95 + 0.005]
    assert step(optimizer, theta, 4.0, -2.0, 4.0, 0.0) == pytest.approx(expected)
    assert optimizer.statistics["clipped_share"] == 0.5
    # The next estimate is averaged in: h = (2, 1/2, 1/2, 0) / 2 + (0, 2, 0, 6) / 2
    optimizer.update_curvature([torch.tensor([0.0, 2.0, 0.0, 6.0], dtype=torch.float64)])
    assert optimizer.state[theta]["curvature"].tolist() == pytest.approx([1.0, 1.25, 0.25, 3.0])


def test_sophia_before_any_estimate_is_signum():
    one, other = vector(1.0, -2.0, 3.0), vector(1.0, -2.0, 3.0)
    sophia = published(one, lr=0.1, beta1=0.9, beta2=0.99, gamma=0.05, eps=1e-12, weight_decay=0.1)
    signum = stepper("signum", [other], lr=0.1, momentum=0.9, weight_decay=0.1)
    for gradient in ([1.0, -1e-6, 0.0], [-5.0, 2.0, 0.0], [0.1, 0.1, 3.0]):
        assert step(sophia, one, *gradient) == step(signum, other, *gradient)
    assert sophia.statistics["clipped_share"] == 1.0


def test_sophia_does_not_move_where_the_curvature_is_huge():
    theta = vector(1.0, 1.0)
    optimizer = published(theta, lr=0.1, beta1=0.9, beta2=0.9, gamma=0.05, eps=1e-12, weight_decay=0.0)
    optimizer.update_curvature([torch.tensor([1e30, 0.0], dtype=torch.float64)])
    assert step(optimizer, theta, 1.0, 1.0) == pytest.approx([1.0, 0.9], abs=1e-20)
    assert optimizer.statistics["clipped_share"] == 0.5


def test_negative_curvature_counts_as_none():
    """A Hutchinson estimate may be negative: max(gamma h, eps) = eps, a sign step where m > eps."""
    theta = vector(1.0, 1.0, 1.0)
    optimizer = published(theta, lr=0.1, beta1=0.0, beta2=0.0, gamma=2.0, eps=1e-3, weight_decay=0.0)
    optimizer.update_curvature([torch.tensor([-3.0, -3.0, 3.0], dtype=torch.float64)])
    # ratio = (0.5 / 1e-3 -> 1, 5e-4 / 1e-3 = 0.5, 3 / 6 = 0.5)
    assert step(optimizer, theta, 0.5, 5e-4, 3.0) == pytest.approx([0.9, 0.95, 0.95])
    assert optimizer.statistics["clipped_share"] == pytest.approx(1 / 3)


def test_sophia_moves_like_newton_where_nothing_is_clipped():
    """Without averaging (b1 = b2 = 0) a step on a quadratic is lr times the exact Newton step."""
    theta, curvature = vector(0.3, -0.2), torch.tensor([2.0, 5.0], dtype=torch.float64)
    optimizer = published(theta, lr=1.0, beta1=0.0, beta2=0.0, gamma=1.0, eps=1e-12, weight_decay=0.0)
    optimizer.update_curvature([curvature])
    assert step(optimizer, theta, *(curvature * theta).tolist()) == pytest.approx([0.0, 0.0], abs=1e-15)


@pytest.mark.parametrize("whole", [True, False])
def test_the_clipped_share_is_of_the_coordinates_that_have_a_gradient(whole):
    """A frozen embedding of thousands of coordinates must not make a share of 1/2 look like 0."""
    settings = {"lr": 0.1, "beta1": 0.0, "beta2": 0.0, "gamma": 1.0, "eps": 1e-3, "weight_decay": 0.0}
    moved, still = vector(1.0, 1.0), torch.nn.Parameter(torch.ones(6, dtype=torch.float64))
    optimizer = stepper("sophia", [moved, still], clipped_target=None, **settings)
    optimizer.update_curvature([torch.tensor([2.0, 0.5], dtype=torch.float64), torch.ones_like(still)])
    moved.grad = torch.tensor([1.0, 1.0], dtype=torch.float64)  # ratios 1/2 and 2
    if whole:  # the others have a gradient too, of 0: they count, and are not clipped
        still.grad = torch.zeros_like(still)
    optimizer.step()
    assert optimizer.statistics["clipped_share"] == (1 / 8 if whole else 1 / 2)
    assert moved.tolist() == pytest.approx([0.95, 0.9]) and still.tolist() == [1.0] * 6


# --- Sophia as released -----------------------------------------------------------------------------


def literal_released_step(theta, gradient, state, lr, beta1, beta2, rho, weight_decay):
    """One tensor, in the order of the released code: h, m, decay, m once more, bounded ratio, move."""
    state["h"] = beta2 * state["h"] + (1 - beta2) * gradient**2
    state["m"] = beta1 * state["m"] + (1 - beta1) * gradient
    theta = theta - lr * weight_decay * theta
    state["m"] = beta1 * state["m"] + (1 - beta1) * gradient
    ratio = torch.minimum(state["m"].abs() / (rho * 5120 * state["h"] + 1e-15), torch.ones_like(theta))
    return theta - lr * torch.sign(state["m"]) * ratio, float((ratio >= 1).double().mean())


def test_sophia_as_released_equals_the_released_formula():
    settings = {"lr": 3e-3, "beta1": 0.9, "beta2": 0.95, "rho": 0.04, "weight_decay": 0.1}
    generator = torch.Generator().manual_seed(0)
    theta = torch.nn.Parameter(torch.randn(40, 25, dtype=torch.float64, generator=generator))
    optimizer = stepper("sophia_as_released", [theta], **settings)
    expected, state = theta.detach().clone(), {"h": torch.zeros(40, 25), "m": torch.zeros(40, 25)}
    shares = []
    for _ in range(8):
        # Sizes from 1e-6 to 1: some coordinates are clipped, some are not.
        size = 10 ** (-6 * torch.rand(40, 25, dtype=torch.float64, generator=generator))
        theta.grad = torch.randn(40, 25, dtype=torch.float64, generator=generator) * size
        expected, share = literal_released_step(expected, theta.grad, state, **settings)
        optimizer.step()
        assert torch.allclose(theta, expected, rtol=1e-13, atol=1e-15)
        assert optimizer.statistics["clipped_share"] == pytest.approx(share)
        shares.append(share)
    assert min(shares) > 0.05 and max(shares) < 0.95
    assert torch.allclose(optimizer.state[theta]["curvature"], state["h"], rtol=1e-13)


def test_its_momentum_is_one_average_with_beta1_squared():
    theta = vector(0.0)
    optimizer = stepper(
        "sophia_as_released", [theta], lr=0.1, beta1=0.9, beta2=0.95, rho=0.04, weight_decay=0.0
    )
    average = 0.0
    for gradient in (1.0, -3.0, 0.5):
        step(optimizer, theta, gradient)
        average = 0.81 * average + 0.19 * gradient
        assert optimizer.state[theta]["momentum"].item() == pytest.approx(average)


def test_sophia_as_released_by_hand():
    theta = vector(1.0, 1.0, 1.0)
    optimizer = stepper(
        "sophia_as_released", [theta], lr=0.1, beta1=0.5, beta2=0.5, rho=1 / 2560, weight_decay=0.5
    )
    # h = g^2 / 2, rho 5120 h = g^2, m = 3/4 g, ratio = 3 / (4 g): 3/8, clipped, 0
    assert step(optimizer, theta, 2.0, -0.1, 0.0) == pytest.approx([0.95 - 0.0375, 1.05, 0.95])
    assert optimizer.statistics["clipped_share"] == pytest.approx(1 / 3)
