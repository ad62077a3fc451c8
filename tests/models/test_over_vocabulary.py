"""A vocabulary in pieces: the same numbers, second derivatives included, and no (N, V) tensor as a whole."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode

from pipeline_lib.data.batching import collate
from pipeline_lib.models import forward
from pipeline_lib.models.forward import answer_hidden, answer_nll, over_vocabulary, token_nll
from tests.tiny import VOCAB, flat, in_float64, make_examples, random_examples, tiny_model


def gradient(model, batch, weights=None):
    """NLL of every token and the gradient of its weighted sum."""
    model.zero_grad(set_to_none=True)
    nll, _ = answer_nll(model, batch)
    (nll if weights is None else nll * weights).sum().backward()
    return nll.detach(), flat([p.grad for p in model.parameters()])


@settings(max_examples=25, deadline=None)
@given(
    sizes=st.lists(st.tuples(st.integers(1, 4), st.integers(1, 9)), min_size=1, max_size=5),
    rows=st.integers(1, 12),
    tied=st.booleans(),
)
@in_float64()
def test_pieces_of_any_size_give_the_same_likelihoods_and_gradients(sizes, rows, tied):
    model = tiny_model(0, torch.float64, tie_word_embeddings=tied)
    batch = collate(make_examples(sizes), 0)
    weights = torch.linspace(-1.0, 2.0, batch.answer_tokens, dtype=torch.float64)
    whole = gradient(model, batch, weights)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(forward, "LOGITS_AT_ONCE", rows * VOCAB)
        pieces = gradient(model, batch, weights)
    assert float(whole[1].abs().max()) > 1e-2  # the comparison has teeth
    for one, other in zip(whole, pieces, strict=True):
        assert torch.allclose(one, other, rtol=1e-12, atol=1e-12)


def test_one_piece_is_what_there_was_before_to_the_bit(monkeypatch):
    model, batch = tiny_model(), collate(random_examples(4), 0)
    monkeypatch.setattr(forward, "LOGITS_AT_ONCE", batch.answer_tokens * VOCAB)
    logits, targets, _ = forward.answer_logits(model, batch)
    expected = torch.nn.functional.cross_entropy(logits, targets, reduction="none")
    assert torch.equal(answer_nll(model, batch)[0], expected)


@in_float64()
def test_second_derivatives_go_through_the_pieces(monkeypatch):
    model, batch = tiny_model(0, torch.float64), collate(random_examples(3), 0)
    parameters = list(model.parameters())

    def product():
        with sdpa_kernel(SDPBackend.MATH):
            loss = answer_nll(model, batch)[0].sum()
            first = torch.autograd.grad(loss, parameters, create_graph=True)
            along = sum((g * torch.cos(p.detach())).sum() for g, p in zip(first, parameters, strict=True))
            return flat(torch.autograd.grad(along, parameters))

    whole = product()
    monkeypatch.setattr(forward, "LOGITS_AT_ONCE", 3 * VOCAB)
    assert float(whole.abs().max()) > 1e-2
    assert torch.allclose(product(), whole, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("compute", ["fp32", "bf16"])
def test_half_precision_and_bf16_weights_stay_within_their_rounding(monkeypatch, compute):
    batch = collate(random_examples(6), 0)
    model = tiny_model(0, torch.bfloat16 if compute == "fp32" else torch.float32)

    def found():
        with torch.autocast("cpu", torch.bfloat16, enabled=compute == "bf16"):
            return gradient(model, batch)

    whole = found()
    monkeypatch.setattr(forward, "LOGITS_AT_ONCE", 5 * VOCAB)
    pieces = found()
    assert torch.allclose(pieces[0], whole[0], rtol=2e-2, atol=2e-2)
    similarity = torch.nn.functional.cosine_similarity(pieces[1].float(), whole[1].float(), dim=0)
    assert float(similarity) > 0.999


class Largest(TorchDispatchMode):
    """The most elements with a last dimension of V that any operation makes."""

    def __init__(self):
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        made = function(*args, **(kwargs or {}))
        for tensor in made if isinstance(made, tuple | list) else [made]:
            if isinstance(tensor, torch.Tensor) and tensor.dim() == 2 and tensor.shape[-1] == VOCAB:
                self.elements = max(self.elements, tensor.numel())
        return made


def test_the_logits_of_all_positions_never_exist_at_once(monkeypatch):
    model = tiny_model(hidden_size=8, num_attention_heads=1, num_key_value_heads=1)
    batch = collate(make_examples([(2, 20), (2, 20)]), 0)
    whole, pieces = Largest(), Largest()
    with whole:
        gradient(model, batch)
    assert whole.elements == 40 * VOCAB
    monkeypatch.setattr(forward, "LOGITS_AT_ONCE", 10 * VOCAB)
    with pieces:
        gradient(model, batch)
    assert pieces.elements == 10 * VOCAB


def test_sums_are_added_and_rows_stay_in_order(monkeypatch):
    head = torch.nn.Linear(3, 5, bias=False)
    hidden, targets = torch.randn(7, 3, generator=torch.Generator().manual_seed(0)), torch.arange(7) % 5

    def both(logits, targets):
        return logits.sum(), *token_nll(logits, targets)

    whole = over_vocabulary(head, hidden, both, targets)
    monkeypatch.setattr(forward, "LOGITS_AT_ONCE", 10)
    with torch.no_grad():  # nothing to go back through: pieces are plain
        pieces = over_vocabulary(head, hidden, both, targets)
    assert torch.allclose(pieces[0], whole[0], atol=1e-5) and torch.allclose(pieces[1], whole[1], atol=1e-6)
    assert pieces[1].shape == (7,) and not pieces[0].requires_grad


def test_hidden_states_are_those_that_predict_answers():
    model, batch = tiny_model(), collate(random_examples(3), 0)
    hidden, targets, rows = answer_hidden(model, batch)
    logits, same_targets, same_rows = forward.answer_logits(model, batch)
    assert torch.equal(model.get_output_embeddings()(hidden), logits)
    assert torch.equal(targets, same_targets) and torch.equal(rows, same_rows)
