"""Texts as one tree against each text alone, in every architecture, with all that a run may do to a model."""

from __future__ import annotations

import copy
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from pipeline_lib.curvature.base import StepData
from pipeline_lib.data.batching import Batch, Example, collate
from pipeline_lib.influence.gauss_newton import GaussNewton
from pipeline_lib.models import forward, fused_attention, tree_attention
from pipeline_lib.models.adapters import adapters_off, attach
from pipeline_lib.models.forward import answer_logits, answer_nll, last_hidden
from pipeline_lib.models.recompute import activations_again
from pipeline_lib.models.token_tree import build_tree
from pipeline_lib.models.tree_attention import reads_trees
from tests.methods import estimator
from tests.models.families import FAMILIES, family_model
from tests.tiny import flat, in_float64, pad_right, tiny_model

VOCABULARY = 64
# Those that read trees. A family that falls back in silence is slower, one that is wrong is worse.
READ = {
    "llama", "qwen2", "qwen3", "gemma", "phi", "phi3", "gpt2", "bigcode", "pythia", "opt", "mixtral", "olmo",
    "olmo2", "smollm3", "cohere", "granite", "glm", "biogpt",
}  # fmt: skip
# The others, and why. Qwen2-MoE says that its window is 0 where it has none, which is taken for a window.
APART = {
    "a window": {"mistral", "ministral", "qwen2 moe", "gemma3", "olmo3", "starcoder2", "cohere2"},
    "plain attention": {
        "gemma2", "gemma3 capped", "gpt neo", "gptj", "codegen", "bloom", "mpt", "gpt-oss", "xglm"
    },
    "does not hand the tree on": {"stablelm", "falcon", "falcon alibi"},
}  # fmt: skip

# A beginning of 6 tokens, longer texts than a window of the families, a text that others begin with, a text
# twice, one that parts early and one of its own: 6 + 7 + 4 + 1 + 3 tokens.
BEGINNING = (1, 9, 8, 7, 6, 5)
TEXTS = [
    (*BEGINNING, 11, 12, 13, 14, 15, 16, 17),
    (*BEGINNING, 21, 22, 23, 24),
    BEGINNING,
    (*BEGINNING, 21, 22, 23, 24),
    (1, 9, 31),
    (40, 41, 42),
]
IN_TREE, ROWS = (1, 21), (6, 13)


def a_batch() -> Batch:
    return collate([Example(text, 2, row) for row, text in enumerate(TEXTS)], 0)


def seen(model: Any) -> list[tuple[int, ...]]:
    """Shapes of the tokens of every pass from now on."""
    shapes: list[tuple[int, ...]] = []
    model.get_input_embeddings().register_forward_hook(
        lambda _, given, __: shapes.append(tuple(given[0].shape))
    )
    return shapes


def weighed(hidden: torch.Tensor, row: int) -> torch.Tensor:
    """A scalar of one text's states (T, D) in which every position counts differently."""
    generator = torch.Generator().manual_seed(row)
    return (hidden * torch.randn(hidden.shape, generator=generator, dtype=torch.float64).to(hidden)).sum()


def gradient_of(model: Any, value: torch.Tensor) -> torch.Tensor:
    parameters = [p for p in model.parameters() if p.requires_grad]
    found = torch.autograd.grad(value, parameters, allow_unused=True, materialize_grads=True)
    return flat(found)


def near(found: torch.Tensor, expected: torch.Tensor, share: float) -> bool:
    """Nowhere further apart than `share` of the largest number."""
    found, expected = found.detach(), expected.detach()
    scale = float(expected.abs().max())
    return scale > 1e-3 and float((found - expected).abs().max()) <= share * scale


def as_each_alone(model: Any, share: float) -> None:
    """States and gradients of the batch are those of its texts alone: no padding, no mask, no positions."""
    decoder = model.get_decoder()
    alone = [decoder(input_ids=torch.tensor([text]), use_cache=False).last_hidden_state[0] for text in TEXTS]
    expected = gradient_of(model, torch.stack([weighed(own, i) for i, own in enumerate(alone)]).sum())
    hidden = last_hidden(model, a_batch())
    assert hidden.shape[:2] == ROWS
    ours = [row[: len(text)] for row, text in zip(hidden, TEXTS, strict=True)]
    assert near(torch.cat(ours), torch.cat(alone), share)
    found = gradient_of(model, torch.stack([weighed(own, i) for i, own in enumerate(ours)]).sum())
    assert near(found, expected, share)


def both_ways(monkeypatch: pytest.MonkeyPatch, compute: Callable[[], torch.Tensor]) -> list[torch.Tensor]:
    """As a tree, and apart."""
    found = [compute()]
    with monkeypatch.context() as patch:
        patch.setattr(forward, "reads_trees", lambda model: False)
        return [*found, compute()]


def test_every_family_is_in_the_table_once() -> None:
    assert sorted([*READ, *(name for names in APART.values() for name in names)]) == sorted(FAMILIES)


@pytest.mark.parametrize("name", FAMILIES)
def test_states_and_gradients_of_every_family(name: str) -> None:
    model = family_model(name, VOCABULARY)
    assert reads_trees(model) == (name in READ)
    shapes = seen(model)
    as_each_alone(model, 1e-4)
    assert shapes[-1] == (IN_TREE if name in READ else ROWS)


@pytest.mark.parametrize("name", ["gpt2", "bigcode", "opt", "biogpt", "pythia", "phi", "llama"])
def test_in_fp64(name: str) -> None:
    """Of the families those whose norms stay in fp64; Llama's are replaced."""
    model = tiny_model(0, torch.float64) if name == "llama" else family_model(name, VOCABULARY, torch.float64)
    shapes = seen(model)
    as_each_alone(model, 1e-10)
    assert shapes[-1] == IN_TREE


@pytest.mark.parametrize("name", ["llama", "gpt2", "mixtral"])
def test_bf16_weights_lose_no_more_than_apart(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = family_model(name, VOCABULARY, torch.bfloat16)
    exact = copy.deepcopy(model).float()
    assert reads_trees(model)

    def results(model: Any) -> torch.Tensor:
        nll = answer_nll(model, a_batch())[0]
        gradient = gradient_of(model, nll.mean())
        return torch.cat(
            [nll.detach().float() / nll.detach().abs().max(), gradient.float() / gradient.abs().max()]
        )

    expected = results(exact)
    tree, apart = both_ways(monkeypatch, lambda: results(model))
    misses = [float((found - expected).norm() / expected.norm()) for found in (tree, apart)]
    assert 0 < misses[0] < 1.5 * misses[1] + 1e-3


def test_another_width_of_the_batch_changes_nothing() -> None:
    model = tiny_model()
    wide = last_hidden(model, pad_right(a_batch(), 5, 7))
    assert wide.shape[:2] == (6, 18)
    assert torch.equal(wide[:, :13], last_hidden(model, a_batch()))


def test_texts_of_one_token() -> None:
    """torch's causal mask is not asked for then."""
    model = tiny_model()
    batch = collate([Example((token,), 1, token) for token in (5, 6, 5)], 0)
    found = last_hidden(model, batch)[:, 0]
    for row, token in zip(found, (5, 6, 5), strict=True):
        alone = model.get_decoder()(input_ids=torch.tensor([[token]])).last_hidden_state[0, 0]
        assert torch.allclose(row, alone, rtol=1e-4, atol=1e-5)


def test_without_a_tree_the_attention_is_that_of_transformers() -> None:
    query, key, value = torch.randn(3, 2, 4, 5, 8)  # (B, H, T, F)
    module = SimpleNamespace(is_causal=True, training=False)
    ours = tree_attention._attention(module, query, key, value, None, dropout=0.0, scaling=0.3)
    theirs = sdpa_attention_forward(module, query, key, value, None, dropout=0.0, scaling=0.3)
    assert torch.equal(ours[0], theirs[0])


def test_heads_that_share_keys_are_told_apart_where_no_fused_kernel_takes_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As CUDA's for fp32."""
    model = tiny_model(num_key_value_heads=1)
    expected = last_hidden(model, a_batch())
    asked = []
    own = fused_attention.sdpa_attention_forward

    def attention(module: Any, query: Any, key: Any, *rest: Any, **options: Any) -> Any:
        asked.append((key.shape[1] == query.shape[1], hasattr(module, "num_key_value_groups")))
        return own(module, query, key, *rest, **options)

    monkeypatch.setattr(fused_attention, "sdpa_attention_forward", attention)
    monkeypatch.setattr(fused_attention, "_no_fused_groups", lambda query: True)
    assert torch.allclose(last_hidden(model, a_batch()), expected, atol=1e-5)
    assert set(asked) == {(True, False)}


# What a run does to a model.


def test_a_second_call_gives_the_same_bits() -> None:
    model = tiny_model()

    def both() -> tuple[torch.Tensor, torch.Tensor]:
        nll = answer_nll(model, a_batch())[0]
        return nll.detach(), gradient_of(model, nll.sum())

    first, second = both(), both()
    assert torch.equal(first[0], second[0]) and torch.equal(first[1], second[1])


def test_activations_computed_again_give_the_same_bits() -> None:
    model = tiny_model()
    shapes = seen(model)
    plain = gradient_of(model, answer_nll(model, a_batch())[0].sum())
    with activations_again(model):
        again = gradient_of(model, answer_nll(model, a_batch())[0].sum())
    assert shapes[-2:] == [IN_TREE, IN_TREE]
    assert float(plain.abs().max()) > 1e-3 and torch.equal(again, plain)


@in_float64()
def test_adapters(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model(0, torch.float64)
    plain = answer_logits(model, a_batch())[0].detach()
    attach(model, rank=2, alpha=4.0, dropout=0.0, target="all-linear", seed=0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".lora_B" in name:
                parameter.add_(0.1)
    shapes = seen(model)
    tree, apart = both_ways(monkeypatch, lambda: gradient_of(model, answer_nll(model, a_batch())[0].sum()))
    assert shapes[-2:] == [IN_TREE, ROWS]
    assert near(tree, apart, 1e-10)
    with adapters_off(model):
        assert torch.allclose(answer_logits(model, a_batch())[0], plain, rtol=1e-12)


@in_float64()
def test_gradients_of_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    model, batch = tiny_model(0, torch.float64), a_batch()
    shapes = seen(model)

    def estimate() -> torch.Tensor:
        generator = torch.Generator().manual_seed(0)
        step = StepData([batch], [], "forget")
        kind = estimator("hutchinson_rademacher")
        return flat(kind.estimate(model, None, step, list(model.parameters()), generator))

    reads_trees(model)
    shapes.clear()
    tree, apart = both_ways(monkeypatch, estimate)
    assert shapes == [IN_TREE, ROWS]
    assert near(tree, apart, 1e-10)


@in_float64()
def test_forward_derivatives(monkeypatch: pytest.MonkeyPatch) -> None:
    """A product with the Gauss-Newton matrix takes one pass with tangents and one without."""
    model, batch = tiny_model(0, torch.float64), a_batch()
    parameters = list(model.parameters())
    vector = torch.randn(sum(p.numel() for p in parameters))
    shapes = seen(model)
    tree, apart = both_ways(monkeypatch, lambda: GaussNewton(model, [batch], parameters)(vector))
    assert shapes[-4:] == [IN_TREE, IN_TREE, ROWS, ROWS]
    assert near(tree, apart, 1e-10)


def test_inference_mode_and_gradients_after_it() -> None:
    """The trial may run first where nothing is recorded."""
    model = tiny_model()
    with torch.inference_mode():
        found = last_hidden(model, a_batch())
    again = last_hidden(model, a_batch())
    assert torch.equal(found, again)
    assert float(gradient_of(model, again.square().sum()).abs().max()) > 1e-3


def test_nodes_are_in_the_order_of_the_tree() -> None:
    model = tiny_model()
    tree = build_tree(TEXTS)
    found = tree_attention.tree_hidden(model, tree)
    assert found.shape == (21, 32)
    alone = model.get_decoder()(input_ids=torch.tensor([TEXTS[0]])).last_hidden_state[0]
    assert torch.allclose(found[:13], alone, rtol=1e-4, atol=1e-4)
