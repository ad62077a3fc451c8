"""Products with the Gauss-Newton matrix against the whole matrix from Jacobians."""

from __future__ import annotations

import pytest
import torch

from pipeline_lib.core.errors import UserError
from pipeline_lib.data.batching import collate, micro_batches
from pipeline_lib.influence.gauss_newton import GaussNewton
from tests.influence.cases import (
    Untraceable,
    dense_gauss_newton,
    small_examples,
    small_model,
    without_answers,
)
from tests.tiny import PAD, in_float64, pad_right, tiny_model


@in_float64()
@pytest.mark.parametrize("tied", [True, False])
def test_products_equal_the_dense_matrix(tied):
    model, examples = small_model(tie_word_embeddings=tied), small_examples(3)
    parameters = list(model.parameters())
    dense = dense_gauss_newton(model, examples, parameters)
    operator = GaussNewton(model, micro_batches(examples, 2, PAD), parameters)
    vectors = torch.randn(6, len(dense), generator=torch.Generator().manual_seed(0))
    products = torch.stack([operator(vector) for vector in vectors])
    assert dense.abs().max() > 0.5
    assert torch.allclose(products, vectors @ dense, rtol=1e-9, atol=1e-11)
    forms = products @ vectors.T  # u^T G v
    assert torch.allclose(forms, forms.T, atol=1e-10)
    assert torch.linalg.eigvalsh(forms)[0] > 0
    null = torch.linalg.eigh(dense)[1][:, 0]  # no more answer tokens than this: G is singular
    assert operator(null).norm() < 1e-12


@in_float64()
def test_some_of_the_parameters_give_the_block_of_these():
    model, examples = small_model(), small_examples(2)
    everything, some = list(model.parameters()), list(model.model.layers[0].mlp.parameters())
    dense = dense_gauss_newton(model, examples, everything)
    ours = torch.cat([torch.full((p.numel(),), any(p is q for q in some)) for p in everything])
    vector = torch.randn(int(ours.sum()), generator=torch.Generator().manual_seed(0))
    found = GaussNewton(model, [collate(examples, PAD)], some)(vector)
    assert torch.allclose(found, dense[ours][:, ours] @ vector, rtol=1e-9, atol=1e-12)


@in_float64()
def test_micro_batches_and_padding_change_nothing():
    model, examples = tiny_model(0, torch.float64), small_examples(6)
    parameters = list(model.parameters())
    size = sum(p.numel() for p in parameters)
    vector = torch.randn(size, generator=torch.Generator().manual_seed(0))
    whole = GaussNewton(model, [collate(examples, PAD)], parameters)(vector)
    assert whole.norm() > 1
    for batches in (
        micro_batches(examples, 4, PAD),
        micro_batches(examples, 1, PAD),
        [pad_right(collate(examples, 5), 7, 9)],
        [pad_right(collate(examples[:2], 5), 3, 9), collate(examples[2:], 1)],
        [collate(examples, PAD), without_answers(collate(examples[:3], PAD))],
    ):
        assert torch.allclose(GaussNewton(model, batches, parameters)(vector), whole, rtol=1e-9, atol=1e-11)


def test_single_precision_and_eager_attention_agree_with_double():
    examples, outcomes = small_examples(4), []
    for dtype, attention in ((torch.float64, "sdpa"), (torch.float32, "sdpa"), (torch.float32, "eager")):
        model = tiny_model(0, dtype)
        model.set_attn_implementation(attention)
        parameters = list(model.parameters())
        size = sum(p.numel() for p in parameters)
        vector = torch.randn(size, generator=torch.Generator().manual_seed(0)).to(dtype)
        outcomes.append(GaussNewton(model, [collate(examples, PAD)], parameters)(vector).double())
    for found in outcomes[1:]:
        assert (found - outcomes[0]).norm() < 1e-4 * outcomes[0].norm()


def test_gradients_and_parameters_stay_as_they_are():
    model = tiny_model()
    parameters = list(model.parameters())
    before = [p.detach().clone() for p in parameters]
    mark = torch.ones_like(parameters[0])
    parameters[0].grad = mark
    vector = torch.ones(sum(p.numel() for p in parameters))
    GaussNewton(model, [collate(small_examples(2), PAD)], parameters)(vector)
    assert parameters[0].grad is mark
    assert bool((mark == 1).all())
    assert all(p.grad is None for p in parameters[1:])
    assert all(torch.equal(p, q) for p, q in zip(parameters, before, strict=True))
    assert bool((vector == 1).all())


def test_a_model_without_forward_derivatives_is_refused():
    model = tiny_model()
    model.lm_head.register_forward_pre_hook(lambda module, inputs: (Untraceable.apply(inputs[0]),))
    parameters = list(model.parameters())
    operator = GaussNewton(model, [collate(small_examples(2), PAD)], parameters)
    with pytest.raises(UserError, match=r"no forward-mode derivative.*attn_implementation"):
        operator(torch.ones(sum(p.numel() for p in parameters)))


def test_curvature_data_without_answers_is_refused():
    model = tiny_model()
    with pytest.raises(UserError, match="needs answer tokens"):
        GaussNewton(model, [without_answers(collate(small_examples(2), PAD))], list(model.parameters()))
