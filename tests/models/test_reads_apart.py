"""Models and moments for which texts are read apart: they drop, or do not hand a tree on; all are noticed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from pipeline_lib.data.batching import Example, collate
from pipeline_lib.models import tree_attention
from pipeline_lib.models.adapters import attach
from pipeline_lib.models.forward import last_hidden
from pipeline_lib.models.tree_attention import reads_trees
from tests.models.families import family_model
from tests.models.test_tree_attention import IN_TREE, ROWS, TEXTS, VOCABULARY, a_batch, as_each_alone, seen
from tests.tiny import Bigram, tiny_model

# What drops, and does so in training mode alone.


def with_adapters(dropout: float) -> Any:
    model = tiny_model()
    attach(model, rank=2, alpha=4.0, dropout=dropout, target="all-linear", seed=0)
    return model


DROPPING: dict[str, tuple[Callable[[], Any], bool]] = {
    "nothing": (tiny_model, False),
    "attention": (lambda: tiny_model(attention_dropout=0.1), True),
    "adapters": (lambda: with_adapters(0.1), True),
    "adapters without": (lambda: with_adapters(0.0), False),
    "modules": (lambda: family_model("gpt2", VOCABULARY), True),
    "a number of OPT's": (lambda: family_model("opt", VOCABULARY, dropout=0.1), True),
    "layers of OPT": (lambda: family_model("opt", VOCABULARY, dropout=0.0, layerdrop=0.5), True),
    "OPT without": (lambda: family_model("opt", VOCABULARY, dropout=0.0), False),
    "numbers of BioGPT's": (
        lambda: family_model("biogpt", VOCABULARY, attention_probs_dropout_prob=0.0, activation_dropout=0.1),
        True,
    ),
    "noise of a router": (lambda: family_model("mixtral", VOCABULARY, router_jitter_noise=0.1), True),
    "a head that is not there": (lambda: family_model("pythia", VOCABULARY, classifier_dropout=0.1), False),
}


@pytest.mark.parametrize(("make", "drops"), DROPPING.values(), ids=DROPPING)
@pytest.mark.parametrize("first", ["train", "eval"])
def test_what_drops_is_read_apart_while_it_trains(make: Callable[[], Any], drops: bool, first: str) -> None:
    model = make()
    shapes = seen(model)
    for training in (first == "train", first != "train"):
        model.train(training)
        assert reads_trees(model) == (not (training and drops))
        last_hidden(model, a_batch())
        assert shapes[-1] == (ROWS if training and drops else IN_TREE)


# Models that do not hand a tree on, or compute something else with it.


def test_a_layer_with_a_mask_of_its_own_is_noticed() -> None:
    model = tiny_model()
    layer = model.model.layers[1].self_attn
    own = layer.forward

    def masked(*args: Any, attention_mask: Any = None, **options: Any) -> Any:
        length = options["hidden_states"].shape[1]
        return own(*args, attention_mask=torch.zeros(1, 1, length, length), **options)

    layer.forward = masked
    assert not reads_trees(model)


def test_plain_attention_reads_apart_and_fused_does_again() -> None:
    model = tiny_model()
    for kind, tree in (("sdpa", True), ("eager", False), ("sdpa", True)):
        model.set_attn_implementation(kind)
        assert reads_trees(model) == tree


@pytest.mark.parametrize("number", [0, 1])
def test_a_layer_that_swallows_the_tree_is_noticed(number: int) -> None:
    model = tiny_model()
    layer = model.model.layers[number]
    own = layer.forward

    def without(*args: Any, tree: Any = None, **options: Any) -> Any:
        return own(*args, **options)

    layer.forward = without
    assert not reads_trees(model)
    as_each_alone(model, 1e-4)


def test_a_decoder_that_does_not_take_the_tree_is_noticed() -> None:
    model = tiny_model()
    own = model.model.forward

    def strict(input_ids=None, attention_mask=None, position_ids=None, use_cache=None):
        return own(input_ids, attention_mask, position_ids, use_cache=use_cache)

    model.model.forward = strict
    assert not reads_trees(model)
    as_each_alone(model, 1e-4)


def test_positions_that_are_not_used_are_noticed() -> None:
    model = tiny_model()
    own = model.model.rotary_emb.forward
    model.model.rotary_emb.forward = lambda x, position_ids: own(x, torch.arange(x.shape[1])[None])
    assert not reads_trees(model)


def test_another_attention_than_that_to_all_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A window that the configuration does not tell of, shorter than the texts that are tried."""
    monkeypatch.setattr(tree_attention, "attends_to_all", lambda config: True)
    model = family_model("mistral", VOCABULARY, sliding_window=3)
    assert not reads_trees(model)


def test_a_model_that_ignores_what_comes_before_is_not_tried_further() -> None:
    """With nothing to tell right from wrong, texts are read apart."""
    model = tiny_model()
    with torch.no_grad():
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight.zero_()
    assert not reads_trees(model)
    assert not reads_trees(Bigram([[0.5, 0.5], [0.5, 0.5]]))


def test_no_memory_is_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    model = tiny_model()
    with monkeypatch.context() as patch:
        patch.setattr(tree_attention, "tree_hidden", full)
        with pytest.raises(torch.OutOfMemoryError):
            reads_trees(model)
    assert reads_trees(model)


def test_a_model_is_tried_once_and_without_a_trace() -> None:
    model = tiny_model()
    shapes = seen(model)
    state = torch.random.get_rng_state()
    assert reads_trees(model)
    tried = len(shapes)
    assert tried == 3 and reads_trees(model) and len(shapes) == tried
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_batches_that_name_hidden_tokens_are_read_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model()
    examples = [Example(text, 2, row, hidden=(1,)) for row, text in enumerate(TEXTS)]
    shapes = seen(model)
    found = last_hidden(model, collate(examples, 0))
    assert shapes[-1] == ROWS
    assert not torch.allclose(found[:, 2], last_hidden(model, a_batch())[:, 2])
