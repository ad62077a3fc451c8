"""The momentum on 2^N levels: by hand, as Signum with one bit, and as the momentum itself with many."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, strategies
from hypothesis.extra.numpy import arrays

from pipeline_lib.core.errors import UserError
from pipeline_lib.optimizers import OPTIMIZERS
from pipeline_lib.optimizers.rounded_momentum import on_levels
from tests.methods import make_optimizer

VALUES = torch.tensor([0.8, -0.4, 0.56, 0.1, 0.0], dtype=torch.float64)  # over 0.8: 1, -0.5, 0.7, 0.125, 0


@pytest.mark.parametrize(
    ("bits", "expected"),
    [
        (1, [1, -1, 1, 1, 0]),  # levels -1 and 1
        (2, [1, -1 / 3, 1, 1 / 3, 0]),  # thirds, -1 to 1: 0.7 lies above the middle 2/3 of 1/3 and 1
        (4, [1, -7 / 15, 11 / 15, 1 / 15, 0]),  # fifteenths: 0.5 is 7.5 of them, 0.7 is 10.5, 0.125 is 1.875
    ],
)
def test_levels_by_hand(bits: int, expected: list[float]) -> None:
    assert torch.allclose(on_levels(VALUES, bits), torch.tensor(expected, dtype=torch.float64), atol=1e-15)


def test_halfway_the_outer_level_is_taken() -> None:
    """2/3 is the middle of 1/3 and 1."""
    assert on_levels(torch.tensor([3.0, 2.0, -2.0]), 2).tolist() == [1, 1, -1]


@given(
    arrays("float64", 7, elements=strategies.floats(-1e6, 1e6, allow_subnormal=False)),
    strategies.integers(1, 8),
)
def test_each_value_keeps_its_sign_and_is_within_half_a_spacing(drawn: Any, bits: int) -> None:
    values = torch.from_numpy(drawn)
    rounded, largest = on_levels(values, bits), float(values.abs().max())
    assert torch.equal(rounded.sign(), values.sign())
    odd = rounded * (2**bits - 1)  # odd whole numbers, or 0
    assert torch.allclose(odd, odd.round()) and bool((odd.round()[values != 0] % 2 == 1).all())
    if largest > 0:
        assert float((rounded - values / largest).abs().max()) <= 1 / (2**bits - 1) + 1e-12


def model_of(dtype: torch.dtype) -> torch.nn.Module:
    torch.manual_seed(0)
    shapes = ((37, 53), (5,), (300, 77), (1,))
    return torch.nn.ParameterList([torch.nn.Parameter(torch.randn(*shape).to(dtype)) for shape in shapes])


def after(kind: str, steps: int, dtype: torch.dtype = torch.float32, **settings: Any) -> tuple[Any, Any]:
    """A model after these steps, and its optimiser; in each tensor some coordinates have no gradient."""
    model = model_of(dtype)
    optimizer = make_optimizer(kind, model, learning_rate=1e-2, weight_decay=0.1, **settings)
    for step in range(steps):
        torch.manual_seed(step)
        for parameter in model:
            parameter.grad = torch.randn_like(parameter)
            parameter.grad[0] = 0
        optimizer.step()
    return model, optimizer


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_with_one_bit_it_is_signum_bit_for_bit(dtype: torch.dtype) -> None:
    ours, optimizer = after("quantised_sgd", 5, dtype, bits=1, momentum=0.8)
    signum, other = after("signum", 5, dtype, momentum=0.8)
    for one, two in zip(ours, signum, strict=True):
        assert torch.equal(one, two)
        assert torch.equal(optimizer.state[one]["momentum"], other.state[two]["momentum"])


@pytest.mark.parametrize("bits", [4, 6, 8])
def test_with_more_bits_a_step_nears_the_direction_of_the_momentum(bits: int) -> None:
    """No value is off by more than max |m| / (2^N - 1), which bounds the sine of the angle between them."""
    before, _ = after("quantised_sgd", 2, torch.float64, bits=bits)
    now, optimizer = after("quantised_sgd", 3, torch.float64, bits=bits)
    for old, new in list(zip(before, now, strict=True))[::2]:
        moved = (old * (1 - 1e-2 * 0.1) - new).detach().flatten()
        momentum = optimizer.state[new]["momentum"].flatten()
        furthest = momentum.abs().max() / (2**bits - 1)
        sine = float(furthest * momentum.numel() ** 0.5 / momentum.norm())
        assert sine < 5 / 2**bits
        assert float(torch.cosine_similarity(moved, momentum, dim=0)) > (1 - sine**2) ** 0.5
        assert float(moved.abs().max()) == pytest.approx(1e-2)  # the largest step is the rate, as Signum's


@pytest.mark.parametrize("bits", [0, 9, 2.5])
def test_one_to_eight_bits(bits: float) -> None:
    with pytest.raises(UserError, match="bits"):
        OPTIMIZERS.parse({"kind": "quantised_sgd", "learning_rate": 1e-3, "bits": bits})
