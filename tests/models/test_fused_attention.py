"""Which kernel attends: bf16 in training on a CPU is computed in fp32 where texts are short."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

from pipeline_lib.data.batching import collate
from pipeline_lib.models.forward import answer_nll
from pipeline_lib.models.fused_attention import SHORT, fused_attention
from pipeline_lib.models.recompute import activations_again
from tests.tiny import flat, random_examples, tiny_model

MODULE = SimpleNamespace(is_causal=True, training=True, num_key_value_groups=2)


def heads(tokens: int, dtype: torch.dtype) -> list[torch.Tensor]:
    """Queries of four heads, keys and values of two."""
    generator = torch.Generator().manual_seed(tokens)
    return [torch.randn(2, n, tokens, 8, generator=generator).to(dtype).requires_grad_() for n in (4, 2, 2)]


def attended(given: list[torch.Tensor], mask: torch.Tensor | None = None, **autocast: bool) -> torch.Tensor:
    with torch.autocast("cpu", torch.bfloat16, **{"enabled": False, **autocast}):
        return fused_attention(MODULE, *given, mask, dropout=0.0, scaling=0.3)[0]


def by_torch(given: list[torch.Tensor], dtype: torch.dtype, mask: torch.Tensor | None = None) -> torch.Tensor:
    """In one type throughout."""
    query, key, value = (each.to(dtype) for each in given)
    found = F.scaled_dot_product_attention(
        query, key, value, mask, is_causal=mask is None, scale=0.3, enable_gqa=True
    )
    return found.transpose(1, 2)


@pytest.mark.parametrize("autocast", [False, True])
def test_short_texts_are_attended_to_in_fp32_where_they_teach(autocast: bool) -> None:
    given = heads(7, torch.bfloat16)
    if autocast:  # as a rotation of fp32 leaves them
        given[:2] = [each.detach().float().requires_grad_() for each in given[:2]]
    found = attended(given, enabled=autocast)
    exact = by_torch(given, torch.float32)
    assert found.dtype == torch.bfloat16 and torch.equal(found, exact.bfloat16())
    pulled = torch.randn(found.shape, generator=torch.Generator().manual_seed(0)).bfloat16()
    ours, theirs = (torch.autograd.grad(y, given, pulled.to(y.dtype)) for y in (found, exact))
    assert all(map(torch.equal, ours, theirs))


@pytest.mark.parametrize(("tokens", "learns"), [(SHORT, False), (SHORT + 1, True)])
def test_long_texts_and_answers_stay_in_bf16(tokens: int, learns: bool) -> None:
    given = heads(tokens, torch.float32)
    with torch.set_grad_enabled(learns):
        found = attended(given, enabled=True)
        assert torch.equal(found, by_torch(given, torch.bfloat16))
    assert not torch.equal(found, by_torch(given, torch.float32).bfloat16())


def test_a_mask_is_heeded_in_fp32() -> None:
    given = heads(5, torch.bfloat16)
    hidden = torch.rand(2, 1, 5, 5, generator=torch.Generator().manual_seed(1)) < 0.3
    hidden[..., 0] = False
    added = torch.zeros(hidden.shape).masked_fill(hidden, -1e4)
    for mask in (~hidden, added.bfloat16()):
        exact = by_torch(given, torch.float32, mask if mask.dtype == torch.bool else mask.float())
        assert torch.equal(attended(given, mask), exact.bfloat16())
    assert not torch.equal(attended(given, ~hidden), attended(given))


def test_fp32_is_left_alone() -> None:
    given = heads(7, torch.float32)
    assert torch.equal(attended(given), by_torch(given, torch.float32))


def test_activations_computed_again_give_the_same_gradients() -> None:
    """Both passes choose the same kernel."""
    found = []
    for again in (False, True):
        model = tiny_model().train()
        with activations_again(model, again):
            with torch.autocast("cpu", torch.bfloat16):
                loss = answer_nll(model, collate(random_examples(3), 0))[0].sum()
            loss.backward()
        found.append(flat([p.grad for p in model.parameters()]))
    assert torch.equal(*found)
