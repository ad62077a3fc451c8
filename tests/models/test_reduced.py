"""A pruned base keeps its zeros through training; an 8-bit base is the fp32 model of its rounded weights."""

from __future__ import annotations

import pytest
import torch

from pipeline_lib.core.errors import UserError
from pipeline_lib.data.batching import collate
from pipeline_lib.models import reduced
from pipeline_lib.models.adapters import adapters_off, attach, detach
from pipeline_lib.models.forward import answer_nll
from pipeline_lib.models.recompute import activations_again
from pipeline_lib.models.reduced import Int8Linear, base_facts, hold_reduced, linear_layers, reduce_model
from pipeline_lib.models.settings import Int8Base, PrunedBase
from pipeline_lib.optimizers import OPTIMIZERS
from tests.methods import make_optimizer
from tests.optimizers.kinds import SETTINGS
from tests.tiny import flat, random_examples, tiny_model

PRUNED = PrunedBase(kind="pruned", sparsity=0.5)
INT8 = Int8Base(kind="int8")
FULL = {"lora": None, "weights": "fp32"}
ADAPTERS = {"lora": {"rank": 2}, "weights": "fp32"}
BATCH = collate(random_examples(4), 0)


def hold(model, base, training, kind):
    moves = OPTIMIZERS.kinds()[kind].moves_zeros
    hold_reduced(model, base and base.model_dump(), bool(training["lora"]), training["weights"], kind, moves)


def on_adapters(model):
    attach(model, rank=2, alpha=4.0, dropout=0.0, target="all-linear", seed=1)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return model


def gradients(model):
    model.zero_grad(set_to_none=True)
    nll = answer_nll(model, BATCH)[0]
    nll.sum().backward()
    return nll.detach(), flat([p.grad for p in model.parameters() if p.grad is not None])


def test_the_smallest_weights_of_each_layer_become_zero():
    model, plain = tiny_model(), tiny_model()
    facts = reduce_model(model, PrunedBase(kind="pruned", sparsity=0.25))
    for (name, layer), (_, before) in zip(linear_layers(model), linear_layers(plain), strict=True):
        zero = layer.weight == 0
        assert int(zero.sum()) == round(0.25 * zero.numel()), name
        assert before.weight[zero].abs().max() <= before.weight[~zero].abs().min()
        assert torch.equal(layer.weight[~zero], before.weight[~zero])
    assert torch.equal(model.get_input_embeddings().weight, plain.get_input_embeddings().weight)
    facts = facts["base"]
    assert facts["zeros"] == pytest.approx(0.25, abs=1e-3) and facts["sparsity"] == 0.25
    assert len(list(linear_layers(model))) == 14


@pytest.mark.parametrize("kind", ["adamw", "sgd", "signum", "lion", "sophia", "sophia_as_released"])
def test_pruned_weights_stay_zero_and_the_others_move(kind):
    model = tiny_model()
    reduce_model(model, PRUNED)
    zeros = {name: layer.weight == 0 for name, layer in linear_layers(model)}
    before = {name: layer.weight.detach().clone() for name, layer in linear_layers(model)}
    hold(model, PRUNED, FULL, kind)
    optimizer = make_optimizer(kind, model, learning_rate=1e-2, weight_decay=0.1, **SETTINGS.get(kind, {}))
    for _ in range(3):
        answer_nll(model, BATCH)[0].mean().backward()
        if hasattr(optimizer, "update_curvature") and kind == "sophia":
            optimizer.update_curvature(
                [p.grad.square() for group in optimizer.param_groups for p in group["params"]]
            )
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    for name, layer in linear_layers(model):
        assert torch.equal(layer.weight == 0, zeros[name])
        assert not torch.equal(layer.weight, before[name])
    assert base_facts(model, PRUNED.model_dump())["base"]["zeros"] == pytest.approx(0.5, abs=1e-3)


def test_merged_adapters_fill_the_zeros_and_the_facts_say_so():
    model = tiny_model()
    reduce_model(model, PRUNED)
    hold(model, PRUNED, ADAPTERS, "muon")
    detach(on_adapters(model), merge=True)
    assert base_facts(model, PRUNED.model_dump())["base"]["zeros"] < 0.01


def test_rounding_to_8_bits_moves_weights_by_half_a_step_at_most_and_once():
    model, plain = tiny_model(), tiny_model()
    facts = reduce_model(model, INT8)
    moved = 0
    for (_, layer), (_, before) in zip(linear_layers(model), linear_layers(plain), strict=True):
        step = before.weight.abs().amax(1, keepdim=True) / 127
        assert bool(((layer.weight - before.weight).abs() <= 0.5001 * step).all())
        assert all(len(set(row.tolist())) <= 255 for row in layer.weight)
        moved += int((layer.weight != before.weight).sum())
    assert moved > 1000
    once = {name: layer.weight.detach().clone() for name, layer in linear_layers(model)}
    assert reduce_model(model, INT8) == facts
    for name, layer in linear_layers(model):
        assert torch.allclose(layer.weight, once[name], rtol=1e-6, atol=0)
    assert facts["base"] == {
        "kind": "int8",
        "zeros": pytest.approx(0.0, abs=0.05),
        "stored_and_evaluated_as": "float32",
    }


@pytest.mark.parametrize("again", [False, True])
def test_the_8_bit_model_is_the_fp32_model_of_the_same_weights(again):
    model, wide = tiny_model(), tiny_model()
    reduce_model(model, INT8)
    reduce_model(wide, INT8)
    hold(model, INT8, ADAPTERS, "adamw")
    assert sum(isinstance(m, Int8Linear) for m in model.modules()) == 14
    assert not any("proj" in name for name, _ in model.named_parameters())
    on_adapters(model)
    on_adapters(wide)
    with activations_again(model, again):
        found = gradients(model)
    expected = gradients(wide)
    assert float(expected[1].abs().max()) > 1e-2
    for one, other in zip(found, expected, strict=True):
        assert torch.allclose(one, other, rtol=1e-4, atol=1e-4)
    detach(model, merge=True)
    detach(wide, merge=True)
    assert [type(m) for m in model.modules()] == [type(m) for m in tiny_model().modules()]
    for (_, layer), (_, other) in zip(linear_layers(model), linear_layers(wide), strict=True):
        assert torch.allclose(layer.weight, other.weight, rtol=1e-6, atol=1e-7)
    assert torch.allclose(answer_nll(model, BATCH)[0], found[0], rtol=1e-4, atol=1e-4)


def test_nothing_wide_is_kept_for_the_backward_pass():
    model = tiny_model()
    hold(model, INT8, ADAPTERS, "adamw")
    on_adapters(model)
    shapes = {tuple(m.weight.shape) for m in model.modules() if isinstance(m, Int8Linear)}
    kept = []

    def keep(tensor):
        kept.append(tuple(tensor.shape))
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        answer_nll(model, BATCH)
    assert kept and not shapes.intersection(kept) and not {s[::-1] for s in shapes}.intersection(kept)


def test_products_with_the_hessian_are_those_of_the_fp32_model():
    def product(model):
        model.set_attn_implementation("eager")  # the others have no second derivative
        weights = [p for p in on_adapters(model).parameters() if p.requires_grad]
        loss = answer_nll(model, BATCH)[0].sum()
        slopes = torch.autograd.grad(loss, weights, create_graph=True)
        generator = torch.Generator().manual_seed(3)
        vector = [torch.randn(p.shape, generator=generator) for p in weights]
        return flat(list(torch.autograd.grad(slopes, weights, vector)))

    model, wide = tiny_model(), tiny_model()
    reduce_model(model, INT8)
    reduce_model(wide, INT8)
    wide.requires_grad_(False)
    hold(model, INT8, ADAPTERS, "adamw")
    model.requires_grad_(False)
    found, expected = product(model), product(wide)
    assert float(expected.abs().max()) > 1e-2
    assert torch.allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_rounding_in_pieces_is_rounding_at_once(monkeypatch):
    weight = torch.randn(37, 24, generator=torch.Generator().manual_seed(0))
    weight[5] = 0
    values, scale = reduced.round_rows(weight)
    expected = weight.abs().amax(1, keepdim=True) / 127
    expected[5] = 1
    assert torch.equal(scale, expected)
    assert torch.equal(values, (weight / expected).round().to(torch.int8)) and int(values.abs().max()) == 127
    monkeypatch.setattr(reduced, "AT_ONCE", 50)  # two rows
    assert all(map(torch.equal, reduced.round_rows(weight), (values, scale)))


def test_a_layer_with_a_bias_adds_it_as_a_plain_layer_does():
    plain = torch.nn.Linear(24, 16)
    plain.weight.data = reduced.widen_rows(*reduced.round_rows(plain.weight.data))
    x = torch.randn(3, 24, generator=torch.Generator().manual_seed(1))
    assert torch.allclose(Int8Linear(plain)(x), plain(x), rtol=1e-6, atol=1e-6)


def test_adapters_off_is_the_8_bit_base_and_throwing_them_away_leaves_it():
    model = tiny_model()
    reduce_model(model, INT8)
    hold(model, INT8, ADAPTERS, "adamw")
    before = answer_nll(model, BATCH)[0].detach()
    on_adapters(model)
    with adapters_off(model), torch.no_grad():
        assert torch.equal(answer_nll(model, BATCH)[0], before)
    detach(model, merge=False)
    assert torch.equal(answer_nll(model, BATCH)[0].detach(), before)
    assert sum(isinstance(m, Int8Linear) for m in model.modules()) == 14


def test_under_autocast_it_computes_in_bf16():
    model = tiny_model()
    hold(model, INT8, ADAPTERS, "adamw")
    layer = next(m for m in model.modules() if isinstance(m, Int8Linear))
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(torch.ones(1, layer.in_features)).dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("base", "training", "optimizer", "message"),
    [
        (INT8, FULL, "adamw", "the model's base is int8, whose weights cannot be trained"),
        (INT8, {**ADAPTERS, "weights": "bf16"}, "adamw", "found `weights: bf16`, expected fp32"),
        (PRUNED, FULL, "muon", "muon moves weights that are 0 too"),
        (PRUNED, FULL, "influence", "influence moves weights that are 0 too"),
    ],
)
def test_what_would_not_keep_the_base_is_refused(base, training, optimizer, message):
    with pytest.raises(UserError, match=message):
        hold(tiny_model(), base, training, optimizer)


def test_without_a_base_nothing_happens():
    model = tiny_model()
    assert reduce_model(model, None) == base_facts(model, None) == {}
    hold(model, None, FULL, "muon")
    assert not any(isinstance(module, Int8Linear) for module in model.modules())
    assert torch.equal(flat(list(model.parameters())), flat(list(tiny_model().parameters())))


def test_other_kinds_of_layers_are_refused():
    from transformers import GPT2Config, GPT2LMHeadModel

    model = GPT2LMHeadModel(GPT2Config(vocab_size=32, n_positions=16, n_embd=8, n_layer=1, n_head=2))
    with pytest.raises(UserError, match="is a Conv1D"):
        reduce_model(model, PRUNED)
