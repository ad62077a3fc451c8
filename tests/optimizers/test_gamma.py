"""`gamma: auto` holds the clipped share of Sophia at its target."""

from __future__ import annotations

import math

import pytest
import torch

from pipeline_lib.core.errors import UserError
from pipeline_lib.optimizers.sophia import GAMMA_START, adapted_gamma
from tests.methods import stepper


class Quadratic:
    """Noisy gradients of sum a x^2 / 2, the a spread over four decades around `scale`."""

    def __init__(self, scale: float, target: float, size: int = 2000):
        generator = torch.Generator().manual_seed(0)
        self.a = scale * 10 ** (4 * torch.rand(size, generator=generator) - 2)
        self.x = torch.nn.Parameter(torch.randn(size, generator=generator))
        self.optimizer = stepper(
            "sophia",
            [self.x],
            lr=1e-3,
            beta1=0.9,
            beta2=0.9,
            gamma="auto",
            clipped_target=target,
            eps=1e-12,
            weight_decay=0.0,
        )

    def step(self, number: int, estimate: bool) -> float:
        """The clipped share of one step."""
        generator = torch.Generator().manual_seed(number)
        noise = 1 + torch.randn(self.x.shape, generator=generator)
        if estimate:
            self.optimizer.update_curvature([self.a * noise.square()])
        self.x.grad = self.a * self.x.detach() * noise
        self.optimizer.step()
        return self.optimizer.statistics["clipped_share"]

    @property
    def gamma(self) -> float:
        return self.optimizer.param_groups[0]["gamma"]


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
@pytest.mark.parametrize("target", [0.1, 0.5, 0.9])
def test_the_share_settles_at_the_target_within_tens_of_steps(scale, target):
    problem = Quadratic(scale, target)
    shares = [problem.step(number, number % 10 == 0) for number in range(60)]
    assert sum(shares[30:]) / 30 == pytest.approx(target, abs=0.02)
    assert max(abs(share - target) for share in shares[30:]) < 0.15


def test_gamma_waits_for_the_first_estimate():
    """Without one, h is 0 and everything is clipped whatever gamma is."""
    problem = Quadratic(1.0, 0.5)
    for number in range(5):
        assert problem.step(number, estimate=False) == 1.0
        assert problem.gamma == problem.optimizer.statistics["gamma"] == GAMMA_START
    problem.step(5, estimate=True)
    assert problem.optimizer.statistics["gamma"] == GAMMA_START != problem.gamma


def test_the_rule_by_hand():
    # odds of 0.8 are 4, of 0.5 are 1: the square root of 4 is the limit of 2; 0.6: sqrt(1.5)
    assert adapted_gamma(0.1, 0.8, 0.5) == pytest.approx(0.2)
    assert adapted_gamma(0.1, 0.6, 0.5) == pytest.approx(0.1 * math.sqrt(1.5))
    assert adapted_gamma(0.1, 0.4, 0.5) == pytest.approx(0.1 / math.sqrt(1.5))
    assert adapted_gamma(0.1, 0.3, 0.3) == pytest.approx(0.1)
    assert adapted_gamma(0.1, 1.0, 0.9) == pytest.approx(0.2)
    assert adapted_gamma(0.1, 0.0, 0.1) == pytest.approx(0.05)


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_gamma_never_becomes_zero_or_infinite(share):
    gamma = 0.05
    for _ in range(5000):
        gamma = adapted_gamma(gamma, share, 0.5)
    assert 0 < gamma < math.inf


@pytest.mark.parametrize(("gamma", "target"), [("auto", None), (0.05, 0.5)])
def test_target_and_auto_come_together(gamma, target):
    with pytest.raises(UserError, match=r"clipped_target: .*gamma"):
        stepper(
            "sophia",
            [torch.nn.Parameter(torch.zeros(1))],
            lr=0.1,
            beta1=0.9,
            beta2=0.9,
            gamma=gamma,
            clipped_target=target,
            eps=1e-12,
            weight_decay=0.0,
        )
