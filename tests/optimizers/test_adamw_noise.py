"""The noise of `adamw_noise`: its norm, its law, its seed."""

from __future__ import annotations

import pytest
import torch

from tests.methods import make_optimizer
from tests.tiny import flat, tiny_model


def model_of(dtype: torch.dtype = torch.float64) -> torch.nn.Module:
    """Two matrices and a vector; one of the matrices has no gradient at all."""
    torch.manual_seed(0)
    return torch.nn.ParameterList(
        [torch.nn.Parameter(torch.randn(*shape, dtype=dtype)) for shape in ((40, 50), (3, 3), (7,))]
    )


def movement(noise: float | None, seed: int = 5, steps: int = 1) -> list[torch.Tensor]:
    """How far each tensor moves in the last of these steps; `noise` None: AdamW itself."""
    model = model_of()
    kind = "adamw" if noise is None else "adamw_noise"
    more = {} if noise is None else {"noise": noise}
    optimizer = make_optimizer(kind, model, learning_rate=1e-2, weight_decay=0.1, **more)
    for step in range(steps):
        before = [p.detach().clone() for p in model]
        torch.manual_seed(seed + step)
        for number, parameter in enumerate(model):
            draw = torch.Generator().manual_seed(100 * step + number)
            drawn = torch.randn(parameter.shape, generator=draw, dtype=parameter.dtype)
            parameter.grad = None if number == 1 else drawn
        optimizer.step()
    return [p.detach() - old for p, old in zip(model, before, strict=True)]


@pytest.mark.parametrize("noise", [0.5, 1.0, 3.0])
def test_the_noise_of_every_tensor_is_as_long_as_asked(noise):
    noisy, plain = movement(noise), movement(None)
    without_decay = [1e-2 * torch.ones(()) * p.numel() ** 0.5 for p in noisy]  # the first step is lr sign(g)
    for number in (0, 2):
        length = float((noisy[number] - plain[number]).norm())
        assert length == pytest.approx(noise * float(without_decay[number]), rel=1e-6)
    assert torch.equal(noisy[1], torch.zeros(3, 3, dtype=torch.float64))


def test_the_norm_is_that_of_the_current_step_also_later():
    """Weights go on from the noise, but the step without decay depends on gradients alone."""
    model, plain = model_of(), model_of()
    noisy = make_optimizer("adamw_noise", model, learning_rate=1e-2, noise=2.0)
    adamw = make_optimizer("adamw", plain, learning_rate=1e-2)
    for step in range(4):
        before = [[p.detach().clone() for p in some] for some in (model, plain)]
        torch.manual_seed(step)
        for one, other in zip(model, plain, strict=True):
            one.grad = torch.randn_like(one)
            other.grad = one.grad.clone()
        noisy.step()
        adamw.step()
        for one, other, start, begin in zip(model, plain, *before, strict=True):
            own = other.detach() - begin
            drawn = one.detach() - start - own
            assert float(drawn.norm()) == pytest.approx(2 * float(own.norm()), rel=1e-6)


def test_without_noise_it_is_adamw():
    assert all(
        torch.equal(*pair) for pair in zip(movement(0.0, steps=3), movement(None, steps=3), strict=True)
    )


def test_the_noise_is_normal_and_without_direction():
    noisy, plain = movement(1.0), movement(None)
    drawn = (noisy[0] - plain[0]).flatten() / 1e-2
    n = drawn.numel()
    assert abs(float(drawn.mean())) < 4 / n**0.5
    assert float(drawn.pow(4).mean() / drawn.square().mean() ** 2) == pytest.approx(
        3, abs=4 * (24 / n) ** 0.5
    )
    assert abs(float(drawn @ plain[0].flatten())) < 4 * float(drawn.norm() * plain[0].norm()) / n**0.5


def test_it_follows_from_the_seed_of_the_step_and_draws_nothing_from_the_generator():
    first, again, other = movement(1.0), movement(1.0), movement(1.0, seed=6)
    assert torch.equal(first[0], again[0]) and not torch.equal(first[0], other[0])
    later = movement(1.0, seed=5, steps=2)
    assert not torch.equal(later[0], first[0])
    model = tiny_model()
    optimizer = make_optimizer("adamw_noise", model, learning_rate=1e-2)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    before = torch.get_rng_state()
    optimizer.step()
    assert torch.equal(torch.get_rng_state(), before)
    same = tiny_model()
    for parameter in same.parameters():
        parameter.grad = torch.ones_like(parameter)
    torch.rand(3)  # the state of the generator has no say, its seed has
    make_optimizer("adamw_noise", same, learning_rate=1e-2).step()
    assert torch.equal(flat(list(same.parameters())), flat(list(model.parameters())))


def test_tensors_of_one_shape_get_different_noise():
    torch.manual_seed(0)
    model = torch.nn.ParameterList([torch.nn.Parameter(torch.zeros(4, 4)) for _ in range(2)])
    for parameter in model:
        parameter.grad = torch.ones_like(parameter)
    make_optimizer("adamw_noise", model, learning_rate=1e-2).step()
    one, other = (parameter.detach() for parameter in model)
    assert not torch.allclose(one, other)
