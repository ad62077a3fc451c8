"""Wanda: scores by hand, and each layer by what the pruned ones before it give."""

from __future__ import annotations

import pytest
import torch

from pipeline_lib.models.pruned import prune_wanda, smallest_of_rows
from pipeline_lib.models.reduced import linear_layers
from tests.tiny import random_examples, tiny_model


def test_the_smallest_of_each_row_by_hand() -> None:
    scores = torch.tensor([[4.0, 1.0, 3.0, 2.0], [1.0, 1.0, 1.0, 5.0]])
    expected = torch.tensor([[False, True, False, True], [True, True, False, False]])
    assert torch.equal(smallest_of_rows(scores, 0.5), expected)


def inputs_of(model, examples) -> dict[str, torch.Tensor]:
    """By name: the root of the sum of squares of each input of a linear layer, text by text."""
    sums: dict[str, torch.Tensor] = {}

    def add(name: str):
        def hook(_module, given) -> None:
            squares = given[0].double().square().flatten(0, -2).sum(0)
            sums[name] = sums.get(name, torch.zeros_like(squares)) + squares

        return hook

    handles = [layer.register_forward_pre_hook(add(name)) for name, layer in linear_layers(model)]
    with torch.no_grad():
        for example in examples:
            model(input_ids=torch.tensor([example.tokens]))
    for handle in handles:
        handle.remove()
    return {name: total.sqrt() for name, total in sums.items()}


def test_a_layer_loses_its_smallest_products_given_the_pruned_ones_before_it() -> None:
    """What enters a layer of the pruned model is what it was judged by, as later layers change nothing there.

    Within a layer the projections of the attention change what the others of it receive, so only those that
    read the layer's input are held against it.
    """
    model, plain, examples = tiny_model(), tiny_model(), random_examples(6)
    facts = prune_wanda(model, examples, 0.5)
    norms, before = inputs_of(model, examples), dict(linear_layers(plain))
    checked = 0
    for name, layer in linear_layers(model):
        gone = layer.weight == 0
        assert torch.equal(layer.weight[~gone], before[name].weight[~gone]), name
        assert gone.sum(1).unique().tolist() == [round(0.5 * layer.in_features)], name
        if name.endswith(("q_proj", "k_proj", "v_proj")):
            scores = before[name].weight.double().abs() * norms[name]
            least_kept = scores.masked_fill(gone, float("inf")).amin(1)
            most_gone = scores.masked_fill(~gone, 0).amax(1)
            assert bool((most_gone <= least_kept * (1 + 1e-5)).all()), name
            checked += 1
    assert checked == 3 * len(model.model.layers)
    assert facts["zeros"] == pytest.approx(0.5, abs=0.01) and 0 < facts["distance"] < 0.5


def test_it_is_not_magnitude_and_no_share_changes_nothing() -> None:
    model, plain, examples = tiny_model(), tiny_model(), random_examples(6)
    facts = prune_wanda(model, examples, 0.0)
    assert facts["distance"] == 0.0
    for (_, one), (_, other) in zip(linear_layers(model), linear_layers(plain), strict=True):
        assert torch.equal(one.weight, other.weight)
    prune_wanda(model, examples, 0.5)
    differ = [
        not torch.equal(one.weight == 0, smallest_of_rows(other.weight.abs(), 0.5))
        for (_, one), (_, other) in zip(linear_layers(model), linear_layers(plain), strict=True)
    ]
    assert all(differ)
