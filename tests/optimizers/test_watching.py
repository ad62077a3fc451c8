"""The cosines of Sophia's steps with Signum's and AdamW's: by hand, against AdamW itself, and at no price."""

from __future__ import annotations

import pytest
import torch

from pipeline_lib.optimizers import OPTIMIZERS, elementwise
from pipeline_lib.optimizers.watching import BETA2, EPS, cosines
from tests.methods import stepper
from tests.optimizers.kinds import CONTROLS, SETTINGS, SOPHIAS, optimizer_of, take_step
from tests.optimizers.test_elementwise import needs_compiler
from tests.tiny import flat, tiny_model


def cosine(one: torch.Tensor, other: torch.Tensor) -> float:
    return float(one @ other / (one.norm() * other.norm()))


def test_by_hand():
    """u = (0.1, 1, -1, -0.1): with signs 2.2 / (sqrt(2.02) 2); AdamW's first step is m / |g|, so as signs."""
    theta = torch.nn.Parameter(torch.ones(4, dtype=torch.float64))
    settings = {"beta1": 0.5, "beta2": 0.5, "gamma": 0.5, "eps": 1e-3, "weight_decay": 0.5}
    optimizer = stepper("sophia", [theta], lr=0.1, diagnostics=True, **settings)
    optimizer.update_curvature([torch.tensor([4.0, 1.0, 1.0, 0.0], dtype=torch.float64)])
    theta.grad = torch.tensor([0.2, 4.0, -4.0, -2e-4], dtype=torch.float64)
    optimizer.step()
    assert optimizer.statistics["cosine_signum"] == pytest.approx(1.1 / 2.02**0.5)
    # eps 1e-8 takes 5e-5 of the last coordinate
    assert optimizer.statistics["cosine_adamw"] == pytest.approx(1.1 / 2.02**0.5, rel=2e-5)
    assert optimizer.statistics["clipped_norm_share"] == pytest.approx(2 / 2.02)
    # m = (0.05, 1, -1, -5e-5) + g / 2 = (1.05, 1, 1, -5e-5): u = (1, 1, 1, -0.05)
    theta.grad = torch.tensor([2.0, 0.0, 4.0, 0.0], dtype=torch.float64)
    optimizer.step()
    signs = 3.05 / (2 * (3 + 0.0025) ** 0.5)
    assert optimizer.statistics["cosine_signum"] == pytest.approx(signs)
    # v = (1 - b2) (b2 g1^2 + g2^2), corrected by 1 - b2^2 = (1 - b2)(1 + b2)
    v = [(0.999 * a * a + b * b) / 1.999 for a, b in ((0.2, 2.0), (4.0, 0.0), (4.0, 4.0), (2e-4, 0.0))]
    adamw = torch.tensor([1.05, 1.0, 1.0, -5e-5]) / (torch.tensor(v).sqrt() + 1e-8)
    u = torch.tensor([1.0, 1.0, 1.0, -0.05])
    assert optimizer.statistics["cosine_adamw"] == pytest.approx(cosine(u, adamw), rel=1e-5)


def test_the_constants_are_adamws_own():
    adamw = OPTIMIZERS.parse({"kind": "adamw", "learning_rate": 1.0})
    assert (adamw.beta2, adamw.eps) == (BETA2, EPS)


@pytest.mark.parametrize("kind", SOPHIAS)
@pytest.mark.parametrize("control", [None, *CONTROLS])
def test_against_the_step_itself_and_adamw_of_torch(kind, control):
    """AdamW with Sophia's beta1 (squared, where it is averaged twice) is what it is compared with."""
    models = [tiny_model(dtype=torch.float64) for _ in range(2)]
    given = {**SOPHIAS[kind], "weight_decay": 0.0, "control": control}
    optimizer = optimizer_of(kind, models[0], diagnostics=True, **given)
    beta1 = SETTINGS[kind]["beta1"] ** (2 if kind == "sophia_as_released" else 1)
    adamw = torch.optim.AdamW(models[1].parameters(), lr=1e-2, betas=(beta1, BETA2), weight_decay=0.0)
    for step in range(4):
        before = [flat(list(model.parameters())) for model in models]
        take_step(optimizer, models[0], step)
        take_step(adamw, models[1], step)
        moved, other = (
            flat(list(model.parameters())) - start for model, start in zip(models, before, strict=True)
        )
        held = [p for group in optimizer.param_groups for p in group["params"]]
        momenta = {id(p): optimizer.state[p]["momentum"] for p in held}
        signs = -flat([momenta[id(p)] for p in models[0].parameters()]).sign()
        facts = optimizer.statistics
        assert facts["cosine_signum"] == pytest.approx(cosine(moved, signs), rel=1e-6)
        assert facts["cosine_adamw"] == pytest.approx(cosine(moved, other), rel=1e-6)
        assert 0 < facts["clipped_norm_share"] < 1
        if control == "sign_of_equal_norm":
            assert facts["cosine_signum"] == 1.0
        else:
            longest = moved.abs().max()
            clipped = moved.abs() > (1 - 1e-9) * longest
            share = float(moved[clipped].square().sum() / moved.square().sum())
            assert facts["clipped_norm_share"] == pytest.approx(share, rel=1e-6)


def run_of(kind, diagnostics, control=None, steps=4, **options):
    dtype = torch.bfloat16 if options.get("stochastic_rounding") else torch.float32
    model = tiny_model(dtype=dtype)
    optimizer = optimizer_of(kind, model, control=control, diagnostics=diagnostics, **options)
    facts = []
    for step in range(steps):
        take_step(optimizer, model, step)
        facts.append(optimizer.statistics)
    return flat(list(model.parameters())), facts


@pytest.mark.parametrize("kind", SOPHIAS)
@pytest.mark.parametrize("way", ["plain", "stochastic_rounding", "offload"])
@pytest.mark.parametrize("control", [None, *CONTROLS])
def test_the_steps_are_the_same_to_the_bit(kind, way, control):
    if way == "stochastic_rounding" and control == "sign_of_equal_norm":
        return  # refused: test_controls.py
    options = {} if way == "plain" else {way: True}
    watched, facts = run_of(kind, True, control, **options)
    plain, others = run_of(kind, False, control, **options)
    assert torch.equal(watched, plain)
    cut = [{k: v for k, v in found.items() if not k.startswith("cosine")} for found in facts]
    assert cut == others and all("cosine_adamw" in found for found in facts)


@needs_compiler
@pytest.mark.parametrize("control", [None, "sign_of_equal_norm"])
def test_the_compiled_steps_too(control, monkeypatch):
    eager, facts = run_of("sophia", True, control)
    monkeypatch.setattr(elementwise, "COMPILED", {})
    monkeypatch.setattr(elementwise, "COMPILE_FROM", 1)
    monkeypatch.setattr(elementwise, "SMALL", 1)
    torch._dynamo.reset()
    watched, its_facts = run_of("sophia", True, control)
    plain, _ = run_of("sophia", False, control)
    assert torch.equal(watched, plain)
    assert torch.allclose(watched, eager, rtol=1e-5, atol=1e-6)
    for one, other in zip(its_facts, facts, strict=True):
        assert one == pytest.approx(other, rel=1e-4)
    assert all(entry.function is not None for entry in elementwise.COMPILED.values())


@pytest.mark.parametrize("kind", SOPHIAS)
def test_it_costs_one_value_a_parameter(kind):
    method = OPTIMIZERS.parse({"kind": kind, "learning_rate": 1.0, "diagnostics": True})
    assert method.state_bytes(100.0, 0.0, 4) == 1200.0
    optimizer = optimizer_of(kind, tiny_model(), diagnostics=True)
    held = [p for group in optimizer.param_groups for p in group["params"]]
    assert {name for p in held for name in optimizer.state_of(p)} == {
        "momentum",
        "curvature",
        "second_moment",
    }


def test_cosines_do_not_exceed_1():
    assert cosines([1.0, 1.0 + 1e-9, 1.0, 1.0 + 1e-9, 1.0, 1.0], False) == {
        "cosine_signum": 1.0,
        "cosine_adamw": 1.0,
    }
