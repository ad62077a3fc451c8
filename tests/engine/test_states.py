"""Answers that go on from the keys and values of the scored texts are those that read their prompts again."""

from __future__ import annotations

import pytest
import torch

from pipeline_lib.data.batching import Example
from pipeline_lib.engine import asking
from pipeline_lib.engine.cache import keeping_cache
from pipeline_lib.engine.generation import generate
from pipeline_lib.engine.likelihoods import likelihoods_and_states
from pipeline_lib.engine.settings import Decoding, Parts
from pipeline_lib.models.tree_attention import reads_trees
from tests.engine.conftest import SETTINGS, settings_of
from tests.engine.continuations import continue_greedily

PROMPTS = [[5, 6, 7], [5, 6, 7, 8, 9, 10], [11, 12]]
TEXTS = [[[20, 21, 22], [20, 25, 26, 27], [30, 31]], [[20, 21]], [[40, 41, 42], [43, 44]]]


def kept_states(model, groups, asked):
    """Keys and values of the tokens asked for, of each group."""
    found = likelihoods_and_states(
        model,
        groups,
        lambda number, scores: asked[number],
        max_tokens_per_batch=4096,
        pad_id=0,
        distribution=False,
        on_progress=lambda done: None,
    )
    return found[1]


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_kept_states_are_those_of_the_tokens_alone(tiny, attention):
    model = tiny[0]
    model.set_attn_implementation(attention)  # eager: texts are read apart
    assert reads_trees(model) == (attention == "sdpa")
    groups = [
        [Example((*prompt, *text), len(prompt), 0) for text in texts]
        for prompt, texts in zip(PROMPTS, TEXTS, strict=True)
    ]
    asked = [[*PROMPTS[0], 20, 25], [*PROMPTS[1], 20], PROMPTS[2]]
    kept = kept_states(model, groups, asked)
    for tokens, states in zip(asked, kept, strict=True):
        with torch.no_grad():
            alone = model(input_ids=torch.tensor([tokens]), use_cache=True).past_key_values
        assert states.length == len(tokens)
        for layer, (keys, values) in zip(alone.layers, states.layers, strict=True):
            assert torch.allclose(layer.keys[0], keys, atol=1e-5)
            assert torch.allclose(layer.values[0], values, atol=1e-5)


def test_answers_from_states_are_those_from_prompts(tiny):
    model = tiny[0]
    decoding = Decoding([10**6], 0, 4096)
    whole = generate(model, PROMPTS, decoding, max_new_tokens=9)
    known = [generation.tokens[:count] for generation, count in zip(whole, (1, 3, 2), strict=True)]
    groups = [
        [Example((*prompt, *start, 1), len(prompt), 0)] for prompt, start in zip(PROMPTS, known, strict=True)
    ]
    asked = [[*prompt, *start][:-1] for prompt, start in zip(PROMPTS, known, strict=True)]
    widths = []
    handle = model.get_decoder().register_forward_pre_hook(
        lambda module, arguments, given: widths.append(given["input_ids"].shape[1]), with_kwargs=True
    )
    try:
        for lost in (None, 1):
            own = kept_states(model, groups, asked)
            own[1] = None if lost else own[1]
            widths.clear()
            found = continue_greedily(model, PROMPTS, known, own, decoding, [9] * 3)
            assert found == whole
            assert (max(widths) == 1) == (lost is None)  # no prompt is read a second time
    finally:
        handle.remove()


@pytest.mark.parametrize("budget", [1, 120, 4096])
def test_an_evaluation_is_the_same_with_and_without(tiny, records, tmp_path, monkeypatch, budget):
    from pipeline_lib.engine.evaluate import evaluate_model

    changes = {"max_tokens_per_batch": budget, "max_new_tokens": 10, "as_released": True}
    asked = (*tiny, {"forget": records}, settings_of({**SETTINGS, **changes}))
    found = evaluate_model(*asked, Parts(tmp_path / "a", "w"), progress=False)
    score = asking.likelihoods_and_states

    def forgetful(*arguments, **options):
        scores, states = score(*arguments, **options)
        return scores, [None] * len(states)

    monkeypatch.setattr(asking, "likelihoods_and_states", forgetful)
    expected = evaluate_model(*asked, Parts(tmp_path / "b", "w"), progress=False)
    assert [row["generation"] for row in found] == [row["generation"] for row in expected]
    released = [[row["as_released"]["generation"] for row in rows] for rows in (found, expected)]
    assert released[0] == released[1]


def test_layers_that_attend_otherwise_keep_nothing():
    from transformers import MistralConfig, Qwen2Config

    sizes = {"vocab_size": 32, "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1}
    assert keeping_cache(MistralConfig(**sizes, sliding_window=4)) is None
    assert keeping_cache(MistralConfig(**sizes, sliding_window=None)) is not None
    both = Qwen2Config(**{**sizes, "num_hidden_layers": 2}, use_sliding_window=True, max_window_layers=1)
    assert both.layer_types == ["full_attention", "sliding_attention"] and keeping_cache(both) is None


def test_a_beginning_of_none_of_the_texts_is_an_error(tiny):
    groups = [[Example((1, 2, 3, 4), 1, 0), Example((1, 2, 5, 6), 1, 0)]]
    assert kept_states(tiny[0], groups, [[1, 2, 5]])[0].length == 3
    for wrong in ([1, 2, 4], [1, 2, 5, 6]):  # the last token is not read
        with pytest.raises(ValueError, match=f"none of 2 texts begins with these {len(wrong)} tokens"):
            kept_states(tiny[0], groups, [wrong])
