"""RMU on real architectures: which layers run, which weights learn, and that nothing is left behind."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from transformers import AutoModelForCausalLM, GPT2Config, GPTNeoXConfig, OPTConfig

from pipeline_lib.core.errors import UserError
from pipeline_lib.data.batching import collate
from pipeline_lib.objectives.rmu import hidden_states
from tests.methods import make_objective
from tests.objectives.cases import held
from tests.tiny import Bigram, random_examples, tiny_model

LAYERS = 5
SIZES = {"vocab_size": 64, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
CONFIGS = {
    "opt": OPTConfig(
        hidden_size=32,
        ffn_dim=48,
        num_hidden_layers=LAYERS,
        num_attention_heads=4,
        word_embed_proj_dim=32,
        max_position_embeddings=64,
        **SIZES,
    ),
    "gpt2": GPT2Config(n_embd=32, n_layer=LAYERS, n_head=4, n_positions=64, **SIZES),
    "gpt_neox": GPTNeoXConfig(
        hidden_size=32, intermediate_size=48, num_hidden_layers=LAYERS, num_attention_heads=4, **SIZES
    ),
}
OUTPUTS = {
    "llama": "model.layers.{}.mlp.down_proj.weight",
    "opt": "model.decoder.layers.{}.fc2.weight",
    "gpt2": "transformer.h.{}.mlp.c_proj.weight",
    "gpt_neox": "gpt_neox.layers.{}.mlp.dense_4h_to_h.weight",
}


def make(name, seed=0):
    if name == "llama":
        return tiny_model(seed, num_hidden_layers=LAYERS)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return AutoModelForCausalLM.from_config(CONFIGS[name]).eval()


def layers_of(model):
    decoder = model.get_decoder()
    return decoder.h if hasattr(decoder, "h") else decoder.layers


def rmu(reference=None, **changes):
    settings = {"layer": 3, "update_layers": 2, "steering": 4.0, "alpha": 2.0, "direction_seed": 0}
    return make_objective("RMU", **{**settings, **changes}, reference_model=reference)


@pytest.fixture
def batches():
    return collate(random_examples(3, 1), 0), collate(random_examples(3, 2), 0)


every_architecture = pytest.mark.parametrize("name", OUTPUTS)


@every_architecture
def test_only_the_layers_that_it_needs_run(name, batches):
    model, before = make(name), make(name, 1)
    calls = []
    for which, network in (("model", model), ("before", before)):
        for number, layer in enumerate(layers_of(network)):
            layer.register_forward_hook(lambda *_, which=which, number=number: calls.append((which, number)))
    rmu(held(before))(model, *batches).total.backward()
    seen = {which: [number for w, number in calls if w == which] for which in ("model", "before")}
    assert seen == {"model": [0, 1, 2, 3] * 2, "before": [0, 1, 2, 3]}


@every_architecture
def test_only_the_outputs_of_the_last_mlps_learn(name, batches):
    model, objective = make(name), rmu(held(make(name, 1)))
    names = objective.trainable(model)
    assert names == [OUTPUTS[name].format(number) for number in (2, 3)]
    for key, parameter in model.named_parameters():
        parameter.requires_grad_(key in names)
    objective(model, *batches).total.backward()
    for key, parameter in model.named_parameters():
        assert (parameter.grad is not None and bool(parameter.grad.any())) == (key in names), key


@every_architecture
def test_the_hidden_state_is_what_the_layer_adds_to_the_stream(name, batches):
    model = make(name)
    (forget, _) = batches
    whole = model(
        input_ids=forget.input_ids, attention_mask=forget.attention_mask, output_hidden_states=True
    ).hidden_states[4]
    expected = torch.cat([whole[b, t - 1][None] for b, t in (forget.labels != -100).nonzero().tolist()])
    found = hidden_states(model, forget, 3)
    assert found.shape == (forget.answer_tokens, 32)
    assert torch.allclose(found, expected, atol=1e-5)


@every_architecture
def test_the_model_is_as_before_afterwards(name, batches):
    model = make(name)
    tokens = batches[0].input_ids

    def outputs():
        given = model(input_ids=tokens, output_hidden_states=True, use_cache=True)
        return [given.logits, *given.hidden_states]

    def hooks():
        return [len(layer._forward_hooks) for layer in layers_of(model)]

    before, hooked = outputs(), hooks()
    rmu(held(model))(model, *batches).total.backward()
    after = outputs()
    assert hooks() == hooked
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_steps_turn_forget_states_to_the_direction_and_hold_the_others(batches):
    model, before = tiny_model(num_hidden_layers=LAYERS), tiny_model(num_hidden_layers=LAYERS)
    objective = rmu(held(before), alpha=20.0)
    names = objective.trainable(model)
    stepper = torch.optim.AdamW([p for n, p in model.named_parameters() if n in names], lr=1e-2)
    u = objective.direction(32).float()
    for _ in range(150):
        stepper.zero_grad()
        objective(model, *batches).total.backward()
        stepper.step()
    aims = [torch.cosine_similarity(hidden_states(m, batches[0], 3), u, dim=-1) for m in (before, model)]
    assert aims[0].mean() < 0.3 and aims[1].mean() > 0.6
    held_back = hidden_states(model, batches[1], 3) - hidden_states(before, batches[1], 3)
    moved = hidden_states(model, batches[0], 3) - hidden_states(before, batches[0], 3)
    assert held_back.norm(dim=-1).mean() < 0.3 * moved.norm(dim=-1).mean()
    both = zip(model.named_parameters(), before.parameters(), strict=True)
    assert {name for (name, p), q in both if not torch.equal(p, q)} == set(names)


def test_the_direction_depends_on_its_seed_and_the_size_alone():
    u = rmu().direction(32)
    torch.rand(3)
    assert torch.equal(u, rmu(layer=1, steering=9.0).direction(32))
    assert not torch.equal(u, rmu(direction_seed=1).direction(32))
    assert float(u.norm()) == pytest.approx(1, abs=1e-12) and (u >= 0).all() and len(set(u.tolist())) == 32


def test_fewer_layers_than_asked_for_are_all_updated():
    names = rmu(layer=1, update_layers=9).trainable(make("opt"))
    assert names == [OUTPUTS["opt"].format(number) for number in (0, 1)]


def test_a_layer_that_the_model_has_not_is_refused(batches):
    for use in (lambda o: o.trainable(make("llama")), lambda o: o(make("llama"), *batches)):
        with pytest.raises(UserError, match=r"RMU: `layer` is 5, but the model's layers are 0 to 4"):
            use(rmu(held(make("llama")), layer=5))


def test_an_architecture_without_known_parts_is_refused():
    model = Bigram([[0.5, 0.5]] * 2)
    with pytest.raises(UserError, match=r"output matrices of MLPs, named .*down_proj.* have only "):
        rmu(layer=0).trainable(model)
    del model.decoder.layers
    with pytest.raises(UserError, match="layers of Bigram under `layers`, `h` or `blocks` and found none"):
        rmu(layer=0).trainable(model)


def test_a_reference_that_is_the_model_itself_leaves_the_misdirection(batches):
    model = tiny_model(num_hidden_layers=LAYERS)
    losses = rmu(held(model))(model, *batches)
    target = 4.0 * rmu().direction(32).float()
    distance = (hidden_states(model, batches[0], 3) - target).square().mean()
    assert float(losses.total.detach()) == pytest.approx(float(distance.detach()), rel=1e-5)
    doubled = replace(batches[0], tokens_in_step=2 * batches[0].tokens_in_step)
    half = rmu(held(model))(model, doubled, batches[1]).total
    assert float(half.detach()) == pytest.approx(float(distance.detach()) / 2, rel=1e-5)
