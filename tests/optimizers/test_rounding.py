"""bf16 weights: what rounding to nearest loses and rounding at random keeps in the mean."""

from __future__ import annotations

from itertools import chain

import pytest
import torch

from pipeline_lib.core.errors import UserError
from pipeline_lib.optimizers import rounding
from pipeline_lib.optimizers.rounding import stochastic_round
from tests.methods import make_optimizer, stepper
from tests.optimizers.kinds import KINDS, NEED_FP32, optimizer_of, take_step
from tests.tiny import flat, tiny_model

# --- one number ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "below", "above"),
    [
        (1 + 1 / 512, 1.0, 1 + 1 / 128),  # a quarter of the way
        (-(1 + 3 / 512), -(1 + 1 / 128), -1.0),
        (2 - 1 / 1024, 2 - 1 / 128, 2.0),  # into the next power of two
        (3e-40, 2.7550e-40, 3.6734e-40),  # subnormal: spacing 2^-133
    ],
)
def test_the_mean_of_many_draws_is_the_number(value, below, above):
    torch.manual_seed(0)
    n = 200_000
    number = torch.tensor(value)
    drawn = stochastic_round(number.expand(n)).double()
    found = sorted(set(drawn.tolist()))
    assert found == pytest.approx([below, above], rel=1e-4)
    share = (float(number.double()) - found[0]) / (found[1] - found[0])  # exact probability of rounding up
    error = (share * (1 - share) / n) ** 0.5
    assert float((drawn == found[1]).double().mean()) == pytest.approx(share, abs=4 * error)


def test_numbers_of_bf16_stay():
    every = torch.arange(1 << 16, dtype=torch.int32).to(torch.int16).view(torch.bfloat16)
    numbers = every[~every.isnan()]
    assert torch.equal(stochastic_round(numbers.float()).view(torch.int16), numbers.view(torch.int16))
    odd = torch.tensor([0x7FFFFFFF, -1], dtype=torch.int32).view(torch.float32)  # nan with all bits set
    assert stochastic_round(odd).isnan().all()


# --- a step of a model ------------------------------------------------------------------------------


def spacing_share(step: float, std: float) -> float:
    """Exact share of bf16 weights drawn from N(0, std^2) that +-`step` moves, rounded to nearest.

    Sums over every bf16 number v >= 0: its probability is that of the reals that round to it, and a
    step moves it if it is longer than half the gap on its side.
    """
    v = torch.arange(0x7F00, dtype=torch.int32).to(torch.int16).view(torch.bfloat16).double()
    gap = v.diff()
    up = torch.cat([gap, gap[-1:]])
    down = torch.cat([gap[:1], gap])
    upper, lower = v + up / 2, (v - down / 2).clamp(min=0)
    mass = 2 * (torch.special.ndtr(upper / std) - torch.special.ndtr(lower / std))
    return float((mass * ((step > up / 2).double() + (step > down / 2).double()) / 2).sum())


def bf16_weights(n: int, std: float = 0.02) -> torch.nn.Parameter:
    drawn = torch.randn(n, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return torch.nn.Parameter((std * drawn).bfloat16())


@pytest.mark.parametrize(
    ("step", "share"),
    [(1e-6, 0.019), (5e-6, 0.078), (1e-5, 0.155), (5e-5, 0.565), (1e-4, 0.881), (1e-3, 1.0)],
)
def test_steps_that_nearest_rounding_loses(step, share):
    """A sign step of 5e-6, a usual learning rate of unlearning, moves 8 % of a transformer's weights."""
    n = 1 << 18
    weights = bf16_weights(n)
    before = weights.detach().clone()
    optimizer = stepper("signum", [weights], lr=step, momentum=0.0, weight_decay=0.0)
    weights.grad = torch.randn(n, generator=torch.Generator().manual_seed(1)).bfloat16()
    optimizer.step()
    expected = spacing_share(step, 0.02)
    assert expected == pytest.approx(share, abs=6e-3)
    error = (expected * (1 - expected) / n) ** 0.5
    assert float((weights != before).double().mean()) == pytest.approx(expected, abs=4 * error + 1e-4)


@pytest.mark.parametrize("step", [1e-6, 5e-6, 1e-4])
def test_stochastic_rounding_moves_as_far_as_meant_in_the_mean(step):
    n = 1 << 18
    weights = bf16_weights(n)
    before = weights.detach().clone().double()
    model = torch.nn.ParameterList([weights])
    optimizer = make_optimizer(
        "signum", model, learning_rate=step, weight_decay=0.0, momentum=0.0, stochastic_rounding=True
    )
    weights.grad = torch.ones(n, dtype=torch.bfloat16)
    torch.manual_seed(0)
    optimizer.step()
    moved = before - weights.detach().double()
    error = float(moved.std()) / n**0.5
    assert float(moved.mean()) == pytest.approx(step, abs=4 * error)
    assert error < 0.15 * step  # the test can fail
    assert optimizer.statistics["update_norm"] == pytest.approx(step * n**0.5, rel=1e-5)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in NEED_FP32])
def test_every_kind_follows_its_fp32_run_in_the_mean(kind):
    """Many small steps: nearest rounding would lose most of each."""
    ends = {}
    for weights in ("fp32", "stochastic"):
        model = tiny_model(dtype=torch.float32 if weights == "fp32" else torch.bfloat16)
        if weights == "fp32":
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter.copy_(parameter.bfloat16())
        start = flat(list(model.parameters())).double()
        optimizer = optimizer_of(
            kind, model, learning_rate=1e-4, weight_decay=0.0, stochastic_rounding=weights == "stochastic"
        )
        for step in range(20):
            take_step(optimizer, model, step)
        ends[weights] = flat(list(model.parameters())).double() - start
    slope = (ends["stochastic"] @ ends["fp32"]) / (ends["fp32"] @ ends["fp32"])
    spread = (ends["stochastic"] - ends["fp32"]).std() / ends["fp32"].norm()
    assert float(slope) == pytest.approx(1, abs=4 * float(spread) + 0.05)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in NEED_FP32])
def test_where_blocks_begin_changes_nothing(kind, monkeypatch):
    """A step in one block, in blocks of a few tensors, and tensor by tensor."""
    ends, statistics = [], []
    for size in (1 << 26, 3000, 1):
        monkeypatch.setattr(rounding, "BLOCK", size)
        model = tiny_model(dtype=torch.bfloat16)
        optimizer = optimizer_of(kind, model, stochastic_rounding=True)
        torch.manual_seed(1)
        for step in range(4):
            take_step(optimizer, model, step)
        states = [t for s in optimizer.inner.state.values() for t in s.values() if torch.is_tensor(t)]
        ends.append(flat([*model.parameters(), *states]))
        statistics.append(optimizer.statistics)
    assert torch.equal(ends[0], ends[1]) and torch.equal(ends[0], ends[2])
    assert statistics[1] == pytest.approx(statistics[0]) and statistics[2] == pytest.approx(statistics[0])


def test_only_one_block_of_copies_has_memory(monkeypatch):
    monkeypatch.setattr(rounding, "BLOCK", 3000)
    model = tiny_model(dtype=torch.bfloat16)
    optimizer = optimizer_of("sophia", model, stochastic_rounding=True)
    copies = [parameter for group in optimizer.inner.param_groups for parameter in group["params"]]
    advance, seen = optimizer.inner.advance, []

    def in_memory():
        return [copy.numel() for copy in copies if copy.untyped_storage().nbytes()]

    def watched():
        seen.append(in_memory())
        return advance()

    monkeypatch.setattr(optimizer.inner, "advance", watched)
    assert not in_memory()
    take_step(optimizer, model, 0)
    assert not in_memory() and len(seen) > 3
    assert [*chain(*seen)] == [copy.numel() for copy in copies], "every tensor in one block, in their order"
    assert all(sum(block) <= 3000 or len(block) == 1 for block in seen)


def test_settings_pass_between_the_wrapper_and_its_optimiser():
    model = tiny_model(dtype=torch.bfloat16)
    optimizer = optimizer_of("sophia", model, stochastic_rounding=True)
    held = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    assert {id(p) for p in held} == {id(p) for p in model.parameters()}
    optimizer.param_groups[0]["lr"] = 0.5
    take_step(optimizer, model, 0)
    assert optimizer.inner.param_groups[0]["lr"] == 0.5
    for group, inner in zip(optimizer.param_groups, optimizer.inner.param_groups, strict=True):
        assert group["gamma"] == inner["gamma"] != optimizer.statistics["gamma"]
    assert all(tensor.dtype == torch.float32 for s in optimizer.inner.state.values() for tensor in s.values())


@pytest.mark.parametrize("kind", NEED_FP32)
def test_a_kind_that_needs_fp32_is_refused_with_its_reason(kind):
    model = tiny_model(dtype=torch.bfloat16)
    with pytest.raises(UserError, match=r"cannot step bf16 weights block by block: .+"):
        optimizer_of(kind, model, stochastic_rounding=True)


def test_fp32_weights_are_refused():
    with pytest.raises(UserError, match=r"for bf16 weights, found torch.float32"):
        optimizer_of("signum", tiny_model(), stochastic_rounding=True)
