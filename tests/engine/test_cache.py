"""The reserved cache against transformers' own, token by token and after every change of rows."""

from __future__ import annotations

import pytest
import torch
from transformers import DynamicCache

from pipeline_lib.engine.cache import ReservedLayer, fill_gaps, reserved_cache, select_rows
from tests.tiny import tiny_model

CPU = torch.device("cpu")


def test_gaps_are_filled_from_the_end():
    assert fill_gaps(5, {1}) == [0, 4, 2, 3]
    assert fill_gaps(5, {4}) == [0, 1, 2, 3]
    assert fill_gaps(5, {0, 3, 4}) == [2, 1]
    assert fill_gaps(4, {0, 1}) == [2, 3]
    assert sorted(fill_gaps(50, set(range(0, 50, 3)))) == [row for row in range(50) if row % 3]


@pytest.mark.parametrize("rows", [[0, 4, 2, 3], [2, 1], [0], [1, 1, 0, 4, 4, 4], [4, 3, 2, 1, 0]])
def test_selected_rows_equal_an_index(rows):
    generator = torch.Generator().manual_seed(0)
    layer, plain = ReservedLayer(room=9), DynamicCache().layers
    assert plain == []
    keys, values = torch.randn(2, 5, 2, 3, 4, generator=generator)
    layer.update(keys, values)
    layer.select(rows)
    assert torch.equal(layer.keys, keys[rows]) and torch.equal(layer.values, values[rows])
    new = torch.randn(len(rows), 2, 1, 4, generator=generator)
    found = layer.update(new, -new)
    assert torch.equal(found[0], torch.cat([keys[rows], new], 2))
    assert torch.equal(found[1], torch.cat([values[rows], -new], 2))
    assert layer.get_seq_length() == 4


def test_no_token_moves_when_one_is_added():
    layer = ReservedLayer(room=4)
    first, _ = layer.update(torch.ones(2, 1, 2, 3), torch.ones(2, 1, 2, 3))
    place = first.data_ptr()
    for _ in range(2):
        keys, _ = layer.update(torch.ones(2, 1, 1, 3), torch.ones(2, 1, 1, 3))
        assert keys.data_ptr() == place


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_a_model_gives_the_same_logits_with_either_cache(attention):
    model = tiny_model()
    model.set_attn_implementation(attention)
    tokens = torch.randint(3, 60, (4, 12), generator=torch.Generator().manual_seed(0))
    ours, theirs = reserved_cache(model.config, 12), DynamicCache(config=model.config)
    assert all(isinstance(layer, ReservedLayer) for layer in ours.layers)

    def step(part, cache):
        with torch.no_grad():
            return model(input_ids=part, past_key_values=cache, use_cache=True).logits

    assert torch.allclose(step(tokens[:, :5], ours), step(tokens[:, :5], theirs), atol=1e-5)
    for t in range(5, 12):
        if t == 8:
            kept = fill_gaps(4, {0, 2})
            select_rows(ours, kept, CPU)
            theirs.batch_select_indices(torch.tensor(kept))
            tokens = tokens[kept]
        part = tokens[:, t : t + 1]
        assert torch.allclose(step(part, ours), step(part, theirs), atol=1e-5)


def test_layers_of_another_kind_stay_and_are_selected():
    model = tiny_model()
    config = model.config
    config.sliding_window, config.layer_types = 3, ["sliding_attention", "full_attention"]
    cache = reserved_cache(config, 6)
    assert [isinstance(layer, ReservedLayer) for layer in cache.layers] == [False, True]
    keys = torch.arange(3.0)[:, None, None, None].expand(3, 1, 2, 1)
    for i in range(2):
        cache.update(keys, keys, i)
    select_rows(cache, [2, 1], CPU)
    assert [layer.keys[:, 0, 0, 0].tolist() for layer in cache.layers] == [[2.0, 1.0], [2.0, 1.0]]
