"""What all kinds share (groups, decay, checkpoints), and the optimisers from libraries."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace

import pytest
import torch

from pipeline_lib.core.errors import UserError
from pipeline_lib.optimizers import OPTIMIZERS
from pipeline_lib.optimizers.make import parameter_groups
from pipeline_lib.training import checkpoint
from tests.methods import make_optimizer, stepper
from tests.optimizers.kinds import (
    KINDS,
    SETTINGS,
    gradients,
    needs_bitsandbytes,
    optimizer_of,
    take_step,
)
from tests.tiny import flat, tiny_model

# --- what all kinds share ---------------------------------------------------------------------------


def test_every_kind_is_tested():
    assert set(SETTINGS) == {k for k, method in OPTIMIZERS.kinds().items() if method.taken_by is None}


@pytest.mark.parametrize("kind", KINDS)
def test_weight_decay_shrinks_matrices_only(kind):
    """By the same factor under every optimiser, at the first step and with momentum: decay is decoupled."""
    model = tiny_model()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer = optimizer_of(kind, model, learning_rate=0.5)
    for _ in range(3):
        for parameter in model.parameters():
            parameter.grad = torch.zeros_like(parameter)
        optimizer.step()
    for name, parameter in model.named_parameters():
        decays = 2 if kind == "soap" else 3  # its first step only starts its bases
        factor = (1 - 0.5 * 0.25) ** decays if parameter.dim() == 2 else 1.0
        assert torch.allclose(parameter, before[name] * factor, rtol=1e-6, atol=0), name


@pytest.mark.parametrize("kind", KINDS)
def test_frozen_parameters_and_those_without_gradient_stay(kind):
    model = tiny_model()
    first, second, *_ = model.parameters()
    first.requires_grad_(False)
    optimizer = optimizer_of(kind, model, learning_rate=0.5)
    assert not any(p is first for group in optimizer.param_groups for p in group["params"])
    before = second.detach().clone()
    optimizer.step()
    assert torch.equal(second, before)
    assert getattr(optimizer, "statistics", {}) == {}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("weights", ["fp32", "bf16", "bf16_stochastic"])
def test_a_run_from_a_checkpoint_has_the_same_bits(kind, weights, tmp_path):
    dtype = torch.float32 if weights == "fp32" else torch.bfloat16

    if weights != "fp32" and OPTIMIZERS.kinds()[kind].needs_fp32:
        pytest.skip("a suite that asks for it is refused")

    def start():
        model = tiny_model(dtype=dtype, hidden_size=64, intermediate_size=64, num_hidden_layers=1)
        return model, optimizer_of(kind, model, stochastic_rounding=weights == "bf16_stochastic")

    whole, optimizer = start()
    kept = checkpoint.Kept(tmp_path / "c", "mark")
    for step in range(6):
        take_step(optimizer, whole, step)
        if step == 2:
            checkpoint.save(kept, whole, optimizer, checkpoint.Progress(3))
    resumed, optimizer_after = start()
    assert checkpoint.load(kept, resumed, optimizer_after).step == 3
    for step in range(3, 6):
        take_step(optimizer_after, resumed, step)
    assert torch.equal(flat(list(resumed.parameters())), flat(list(whole.parameters())))
    assert getattr(optimizer_after, "statistics", {}) == getattr(optimizer, "statistics", {})
    for one, other in zip(optimizer_after.param_groups, optimizer.param_groups, strict=True):
        assert {k: v for k, v in one.items() if k != "params"} == {
            k: v for k, v in other.items() if k != "params"
        }


@pytest.mark.parametrize("kind", KINDS)
def test_a_changed_learning_rate_is_obeyed(kind):
    """The loop sets `lr` of the parameter groups before every step."""
    moved = {}
    for rate in (1e-3, 4e-3):
        model = tiny_model()
        before = flat(list(model.parameters()))
        optimizer = optimizer_of(kind, model, learning_rate=1.0)
        for group in optimizer.param_groups:
            group["lr"], group["weight_decay"] = rate, 0.0
        for step in range(2):
            take_step(optimizer, model, step)
        moved[rate] = float((flat(list(model.parameters())) - before).norm())
    assert moved[1e-3] > 0
    assert moved[4e-3] == pytest.approx(4 * moved[1e-3], rel=1e-3)


@pytest.mark.parametrize("kind", ["sgd", "signum", "lion", "sophia_as_released"])
def test_the_logged_norm_is_that_of_the_step(kind):
    model = tiny_model()
    optimizer = optimizer_of(kind, model, weight_decay=0.0)
    for step in range(3):
        before = flat(list(model.parameters()))
        take_step(optimizer, model, step)
        moved = float((flat(list(model.parameters())).double() - before.double()).norm())
        assert optimizer.statistics["update_norm"] == pytest.approx(moved, rel=1e-3)


# --- AdamW, SGD -----------------------------------------------------------------------------------


def test_adamw_is_torchs_fused_one_and_equals_the_plain_one():
    ours, plain = tiny_model(), tiny_model()
    optimizer = optimizer_of("adamw", ours)
    assert isinstance(optimizer, torch.optim.AdamW) and optimizer.defaults["fused"] is True
    reference = torch.optim.AdamW(
        parameter_groups(plain, 0.25), lr=1e-2, betas=(0.9, 0.999), eps=1e-8, fused=False, foreach=False
    )
    for step in range(5):
        take_step(optimizer, ours, step)
        take_step(reference, plain, step)
    assert torch.allclose(flat(list(ours.parameters())), flat(list(plain.parameters())), rtol=1e-5, atol=1e-6)


def test_sgd_equals_torchs():
    ours, plain = tiny_model(), tiny_model()
    optimizer = stepper("sgd", ours.parameters(), lr=1e-2, momentum=0.9, weight_decay=0.0)
    reference = torch.optim.SGD(plain.parameters(), lr=1e-2, momentum=0.9)
    for step in range(5):
        take_step(optimizer, ours, step)
        take_step(reference, plain, step)
    assert torch.allclose(flat(list(ours.parameters())), flat(list(plain.parameters())), rtol=1e-6, atol=1e-7)


# --- Muon -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("tied", [True, False])
def test_muon_takes_the_matrices_of_the_layers(tied):
    model = tiny_model(tie_word_embeddings=tied)
    layers, others, vectors = optimizer_of("muon", model).param_groups
    names = {id(p): name for name, p in model.named_parameters()}
    assert all(".layers." in names[id(p)] and p.dim() == 2 for p in layers["params"])
    assert len(layers["params"]) == 2 * 7
    outside = {"model.embed_tokens.weight"} | (set() if tied else {"lm_head.weight"})
    assert {names[id(p)] for p in others["params"]} == outside
    assert all(p.dim() == 1 for p in vectors["params"]) and len(vectors["params"]) == 5
    assert [group["weight_decay"] for group in (layers, others, vectors)] == [0.25, 0.25, 0.0]


def test_muon_steps_are_nearly_orthogonal_and_as_long_as_adamws():
    model = tiny_model()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    rate = 1e-3
    take_step(optimizer_of("muon", model, learning_rate=rate, weight_decay=0.0), model, 0)
    for name, parameter in model.named_parameters():
        change = before[name] - parameter.detach()
        if ".layers." in name and parameter.dim() == 2:
            rows, columns = change.shape
            size = torch.linalg.svdvals(change) / (0.2 * max(rows, columns) ** 0.5 * rate)
            assert size.max() < 1.3 and 0.7 < size.median() < 1.2, name  # five iterations give about 1
            assert 0.1 * rate < change.square().mean().sqrt() < 0.3 * rate  # AdamW's are near 0.2
        else:
            assert change.abs().max() == pytest.approx(rate, rel=1e-2)  # AdamW's first step


def test_muons_other_part_is_adamw():
    one, other = tiny_model(), tiny_model()
    muon, adamw = optimizer_of("muon", one), optimizer_of("adamw", other)
    for step in range(3):
        take_step(muon, one, step)
        take_step(adamw, other, step)
    for (name, p), q in zip(one.named_parameters(), other.parameters(), strict=True):
        inside = ".layers." in name and p.dim() == 2
        assert torch.equal(p, q) != inside, name


def test_muon_steps_by_its_formula():
    """In float64, with the polynomial applied to the singular values, as Newton-Schulz does to X."""
    model = tiny_model()
    names = [name for name, p in model.named_parameters() if ".layers." in name and p.dim() == 2]
    parameters = dict(model.named_parameters())
    ours = {name: parameters[name].detach().double() for name in names}
    momenta = {name: torch.zeros_like(value) for name, value in ours.items()}
    optimizer = optimizer_of("muon", model, learning_rate=1e-2, weight_decay=0.25)
    for step in range(3):
        gradients(model, step)
        grads = {name: parameters[name].grad.double() for name in names}
        take_step(optimizer, model, step)
        for name, value in ours.items():
            grad = grads[name]
            momenta[name] = 0.95 * momenta[name] + 0.05 * grad
            u, s, vh = torch.linalg.svd(0.05 * grad + 0.95 * momenta[name], full_matrices=False)
            s = s / s.norm()
            for _ in range(5):
                s = 3.4445 * s - 4.7750 * s**3 + 2.0315 * s**5
            value *= 1 - 1e-2 * 0.25
            value -= 1e-2 * 0.2 * max(value.shape) ** 0.5 * (u * s) @ vh
    for name, value in ours.items():
        assert torch.allclose(parameters[name].double(), value, rtol=0, atol=2e-6), name


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="torch before 2.9 has no Muon")
def test_muon_is_torchs_but_for_its_products_in_bf16():
    one, other = tiny_model(), tiny_model()
    matrices = [p for name, p in other.named_parameters() if ".layers." in name and p.dim() == 2]
    optimizer = optimizer_of("muon", one, learning_rate=1e-2, weight_decay=0.25)
    theirs = torch.optim.Muon(
        matrices, lr=1e-2, weight_decay=0.25, momentum=0.95, adjust_lr_fn="match_rms_adamw"
    )
    before = {name: p.detach().clone() for name, p in one.named_parameters()}
    take_step(optimizer, one, 0)
    take_step(theirs, other, 0)
    for (name, p), q in zip(one.named_parameters(), other.parameters(), strict=True):
        if ".layers." in name and p.dim() == 2:
            assert (p - q).norm() < 0.03 * (p - before[name]).norm(), name


# --- 8-bit AdamW ----------------------------------------------------------------------------------


def test_without_bitsandbytes_the_error_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)  # importing it fails
    with pytest.raises(UserError, match=r'install it: pip install "bitsandbytes>='):
        optimizer_of("adamw_8bit", tiny_model())


def test_a_device_without_8_bit_optimisers_is_refused(monkeypatch):
    package = ModuleType("bitsandbytes")
    package.optim = SimpleNamespace(AdamW8bit=torch.optim.AdamW)
    monkeypatch.setitem(sys.modules, "bitsandbytes", package)
    with pytest.raises(UserError, match=r"adamw_8bit runs on cpu, cuda, xpu; found meta"):
        optimizer_of("adamw_8bit", tiny_model().to("meta"))


@needs_bitsandbytes
def test_8_bit_states_follow_adamw():
    torch.manual_seed(0)
    start, goal = torch.randn(64, 128), torch.randn(64, 128)
    ends = {}
    for kind in ("adamw", "adamw_8bit"):
        model = torch.nn.Linear(128, 64, bias=False)
        with torch.no_grad():
            model.weight.copy_(start)
        optimizer = make_optimizer(kind, model, learning_rate=1e-2, weight_decay=0.0, **SETTINGS[kind])
        for _ in range(30):
            model.weight.grad = (model.weight - goal).detach()
            optimizer.step()
        ends[kind] = model.weight.detach()
    state = optimizer.state_dict()["state"][0]
    assert state["state1"].dtype == state["state2"].dtype == torch.uint8
    moved = (ends["adamw"] - start).norm()
    assert (ends["adamw_8bit"] - ends["adamw"]).norm() < 0.1 * moved
    assert (ends["adamw_8bit"] - start).norm() == pytest.approx(float(moved), rel=0.1)
    assert gradients(model, 0)[0].shape == (64, 128)
