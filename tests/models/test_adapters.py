"""Adapters leave the model before unlearning within reach, to the bit, and merge into plain weights."""

from __future__ import annotations

import pytest
import torch

from pipeline_lib.core.errors import UserError
from pipeline_lib.models.adapters import adapters_off, attach, detach
from tests.tiny import flat, in_float64, tiny_model

TOKENS = torch.tensor([[3, 4, 5, 6, 7], [8, 9, 10, 11, 12]])


def attached(model=None, **changes):
    model = model or tiny_model()
    attach(model, **{"rank": 2, "alpha": 4.0, "dropout": 0.0, "target": "all-linear", "seed": 5, **changes})
    return model


def moved(model, scale=0.3):
    """As training would leave it: every adapter weight somewhere else."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(scale * torch.randn(parameter.shape, generator=generator).to(parameter))
    return model


def learning(model):
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def logits(model):
    return model(TOKENS).logits.detach()


def test_at_first_the_function_is_unchanged_and_only_adapters_learn():
    model, plain = attached(), tiny_model()
    assert torch.equal(logits(model), logits(plain))
    names = learning(model)
    layers = [name for name, m in plain.named_modules() if isinstance(m, torch.nn.Linear) and "proj" in name]
    assert {name.partition(".lora_")[0] for name in names} == set(layers) and len(layers) == 14
    assert len(names) == 2 * len(layers)
    assert names["model.layers.0.mlp.up_proj.lora_A.default.weight"].shape == (2, 32)
    assert names["model.layers.0.mlp.up_proj.lora_B.default.weight"].shape == (48, 2)


@pytest.mark.parametrize("training", [True, False])
def test_without_its_adapters_the_model_is_its_parent_to_the_bit(training):
    model, parent = moved(attached(dropout=0.5)).train(training), logits(tiny_model())
    kept = set(learning(model))
    first = next(iter(kept))
    model.get_parameter(first).requires_grad_(False)  # as for an objective that trains some only
    for _ in range(2):
        with adapters_off(model) as reference:
            assert torch.equal(reference(TOKENS).logits, parent)
        assert model.training == training and set(learning(model)) == kept - {first}
    assert not torch.allclose(logits(model), parent, atol=0.1)


def test_a_failure_inside_brings_the_adapters_back():
    model = moved(attached()).train()
    before = logits(model)
    with pytest.raises(RuntimeError, match="inside"), adapters_off(model):
        raise RuntimeError("inside")
    assert model.training and torch.equal(logits(model), before) and learning(model)


def test_merged_weights_say_what_the_adapters_said():
    model, plain = moved(attached(), 0.05), tiny_model()
    before = logits(model)
    detach(model, merge=True)
    assert torch.allclose(logits(model), before, rtol=1e-5, atol=1e-5)
    assert [name for name, _ in model.named_parameters()] == [name for name, _ in plain.named_parameters()]
    assert [type(m) for m in model.modules()] == [type(m) for m in plain.modules()]
    assert vars(model).keys() == vars(plain).keys()
    assert all(p.requires_grad for p in model.parameters())


@in_float64()
def test_the_merged_weight_is_w_plus_the_scaled_product():
    model = moved(attached(tiny_model(0, torch.float64), alpha=6.0))
    name = "model.layers.1.self_attn.k_proj"
    layer = model.get_submodule(name)
    a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    expected = (tiny_model(0, torch.float64).get_submodule(name).weight + 6 / 2 * b @ a).detach()
    detach(model, merge=True)
    assert torch.allclose(model.get_submodule(name).weight, expected, rtol=1e-14)


def test_adapters_can_be_thrown_away():
    model = moved(attached())
    detach(model, merge=False)
    assert torch.equal(logits(model), logits(tiny_model()))


def test_the_start_is_drawn_from_the_seed_alone():
    one, plain = attached(), [tiny_model(), tiny_model()]
    state = torch.get_rng_state()
    two, other = attached(plain[0]), attached(plain[1], seed=6)
    assert torch.equal(torch.get_rng_state(), state)
    first, second, third = (flat(list(learning(model).values())) for model in (one, two, other))
    assert torch.equal(first, second) and not torch.equal(first, third)


def test_some_layers_or_some_weights():
    model = attached(target=["q_proj", "v_proj"])
    assert {name.split(".")[4] for name in learning(model)} == {"q_proj", "v_proj"}
    model = attached(trained=["model.layers.1.mlp.down_proj.weight", "model.norm.weight"])
    assert {name.partition(".lora_")[0] for name in learning(model)} == {"model.layers.1.mlp.down_proj"}
    assert torch.equal(logits(model), logits(tiny_model()))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"target": ["query"]},
            r"no layer of the model is named \['query'\]; expected all-linear or .*q_proj",
        ),
        ({"target": ["lm_head"]}, "lm_head shares its weight with another layer"),
        ({"target": ["q_proj"], "trained": ["model.layers.1.mlp.down_proj.weight"]}, "puts no adapter on"),
    ],
)
def test_targets_that_cannot_be_are_refused(changes, message):
    with pytest.raises(UserError, match=message):
        attached(**changes)
