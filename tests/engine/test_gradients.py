"""Gradient norms against the sum of squares of `backward`, and by hand."""

from __future__ import annotations

import math

import pytest
import torch

from pipeline_lib.core.errors import UserError
from pipeline_lib.data.batching import Example, collate
from pipeline_lib.engine.gradients import gradient_norms
from pipeline_lib.models.forward import answer_nll
from tests.tiny import PAD, Bigram, random_examples, tiny_model


def test_equals_backward_one_example_at_a_time():
    model, examples = tiny_model(), random_examples(4)
    expected = []
    for example in examples:
        model.zero_grad()
        answer_nll(model, collate([example], PAD))[0].mean().backward()
        expected.append(math.sqrt(sum(float(p.grad.square().sum()) for p in model.parameters())))
    model.zero_grad(set_to_none=True)
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    assert gradient_norms(model, examples, PAD) == pytest.approx(expected, rel=1e-5)
    assert all(p.grad is None and not p.requires_grad for p in model.parameters())  # left as it was


def test_by_hand():
    # after token 0: p = (1/4, 3/4); label 1: d NLL / d logits = p - (0, 1) = (1/4, -1/4)
    class WithEmbedding(Bigram):
        def get_input_embeddings(self):
            return torch.nn.Embedding(1, 1)

    model = WithEmbedding([[0.25, 0.75], [0.5, 0.5]])
    assert gradient_norms(model, [Example((0, 1), 1, 0)], PAD) == pytest.approx([math.sqrt(2) / 4])


def test_broken_weights_are_an_error():
    model = tiny_model()
    model.model.norm.weight.data[0] = float("nan")
    with pytest.raises(UserError, match="gradient's norm is not a finite number"):
        gradient_norms(model, random_examples(1), PAD)
