"""Activations computed again: the same bits from less memory, with adapters, hooks, dropout and copies."""

from __future__ import annotations

import copy

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from pipeline_lib.core.errors import UserError
from pipeline_lib.data.batching import collate
from pipeline_lib.models.adapters import attach
from pipeline_lib.models.forward import answer_nll
from pipeline_lib.models.recompute import activations_again, decoder_layers
from pipeline_lib.models.tree_attention import reads_trees
from tests.objectives.cases import CASES, held
from tests.objectives.test_pieces import step
from tests.tiny import Bigram, flat, random_examples, tiny_model


def counted(model):
    """How often each layer's attention runs, after the passes that try out whether the model reads trees."""
    reads_trees(model)
    calls = []
    for layer in decoder_layers(model):
        layer.self_attn.register_forward_hook(lambda *_: calls.append(1))
    return calls


@pytest.mark.parametrize("name", CASES)
def test_losses_and_gradients_are_the_same_to_the_bit(name):
    model, before = tiny_model(), tiny_model(1)
    plain = step(CASES[name](held(before)), model)
    with activations_again(model):
        again = step(CASES[name](held(before)), model)
    assert float(plain[1].abs().max()) > 1e-3  # the comparison has teeth
    assert again[0] == plain[0] and torch.equal(again[1], plain[1])


def test_each_layer_runs_once_more_where_a_gradient_is_wanted_and_only_there():
    model, batch = tiny_model(), collate(random_examples(3), 0)
    calls = counted(model)
    with activations_again(model):
        with torch.no_grad():
            answer_nll(model, batch)
        assert len(calls) == 2
        answer_nll(model, batch)[0].sum().backward()
        assert len(calls) == 6  # 2 forward, 2 again
    answer_nll(model, batch)[0].sum().backward()
    assert len(calls) == 8
    with activations_again(model, wanted=False):
        answer_nll(model, batch)[0].sum().backward()
    assert len(calls) == 10


def test_less_is_saved():
    """Bytes that autograd keeps of the forward pass: of six layers about their inputs."""

    def saved(wanted):
        model, batch = tiny_model(num_hidden_layers=6), collate(random_examples(8), 0)
        own = {p.untyped_storage().data_ptr() for p in model.parameters()}
        kept = {}

        def keep(tensor):
            if tensor.untyped_storage().data_ptr() not in own:
                kept[tensor.untyped_storage().data_ptr()] = tensor
            return tensor

        with activations_again(model, wanted), torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
            answer_nll(model, batch)[0].sum()
        return sum(t.untyped_storage().nbytes() for t in kept.values())

    assert saved(True) < 0.35 * saved(False)


def test_dropout_draws_the_same_again():
    model, batch = tiny_model(attention_dropout=0.5).train(), collate(random_examples(4), 0)

    def gradient(wanted):
        torch.manual_seed(3)
        model.zero_grad(set_to_none=True)
        with activations_again(model, wanted):
            answer_nll(model, batch)[0].sum().backward()
        return flat([p.grad for p in model.parameters()])

    plain = gradient(False)
    torch.manual_seed(4)
    answer_nll(model, batch)[0].sum().backward()
    assert not torch.equal(plain, flat([p.grad for p in model.parameters()]))  # dropout is at work
    assert torch.equal(gradient(True), plain)


def test_with_adapters_and_under_autocast():
    model = tiny_model()
    attach(model, rank=2, alpha=4.0, dropout=0.0, target="all-linear", seed=0)
    batch = collate(random_examples(4), 0)

    def gradient(wanted):
        model.zero_grad(set_to_none=True)
        with activations_again(model, wanted), torch.autocast("cpu", torch.bfloat16):
            loss = answer_nll(model, batch)[0].sum()
        loss.backward()
        return flat([p.grad for p in model.parameters() if p.requires_grad])

    assert float(gradient(False).abs().max()) > 0
    assert torch.equal(gradient(True), gradient(False))


def test_second_derivatives():
    model, batch = tiny_model(), collate(random_examples(2), 0)
    parameters = list(model.parameters())

    def product(wanted):
        with activations_again(model, wanted), sdpa_kernel(SDPBackend.MATH):
            loss = answer_nll(model, batch)[0].sum()
            first = torch.autograd.grad(loss, parameters, create_graph=True)
            return flat(torch.autograd.grad(sum(g.square().sum() for g in first), parameters))

    assert torch.allclose(product(True), product(False), rtol=1e-4, atol=1e-4)


def test_a_copy_computes_with_its_own_weights():
    """Who's Harry Potter trains a copy of the model."""
    model, batch = tiny_model(), collate(random_examples(3), 0)
    with activations_again(model):
        other = copy.deepcopy(model)
        with torch.no_grad():
            for parameter in other.parameters():
                parameter.mul_(0.5)
        found = answer_nll(other, batch)[0]
        plain = tiny_model()
        with torch.no_grad():
            for parameter in plain.parameters():
                parameter.mul_(0.5)
        assert torch.equal(found, answer_nll(plain, batch)[0])
        found.sum().backward()
    assert all(p.grad is None for p in model.parameters()) and all(
        p.grad is not None for p in other.parameters()
    )


def test_the_model_is_as_before_afterwards_also_after_an_error():
    model = tiny_model()
    before = [vars(layer).keys() for layer in decoder_layers(model)]
    with pytest.raises(RuntimeError), activations_again(model):
        raise RuntimeError
    assert [vars(layer).keys() for layer in decoder_layers(model)] == before


def test_a_decoder_without_a_list_of_layers_is_refused():
    model = Bigram([[0.5, 0.5], [0.5, 0.5]])
    model.decoder.layers = torch.nn.Identity()
    with pytest.raises(UserError, match="`checkpointing` needs a decoder"), activations_again(model):
        pass
