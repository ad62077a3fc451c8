"""Every objective with the vocabulary in pieces of a few positions: the same losses and gradients."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from pipeline_lib.data.batching import collate
from pipeline_lib.models import forward
from pipeline_lib.models.adapters import adapters_off
from tests.methods import make_objective
from tests.objectives.cases import CASES, adapted, alternatives_to, held, loss_and_gradient
from tests.objectives.test_invariance import assert_same
from tests.tiny import VOCAB, in_float64, make_examples, tiny_model

SIZES = [(2, 3), (1, 6), (4, 1), (3, 8)]


def step(objective, model):
    forget = make_examples(SIZES, 1)
    reference = torch.linspace(2.0, 20.0, len(forget), dtype=torch.float64)
    batches = collate(forget, 0, reference, alternatives_to(forget)), collate(make_examples(SIZES, 2), 0)
    return loss_and_gradient(objective, model, *([batch] for batch in batches))


@pytest.mark.parametrize("rows", [1, 4, 17])
@pytest.mark.parametrize("name", CASES)
@in_float64()
def test_pieces_change_nothing(monkeypatch, name, rows):
    model, before = tiny_model(0, torch.float64), tiny_model(1, torch.float64)
    whole = step(CASES[name](held(before)), model)
    monkeypatch.setattr(forward, "LOGITS_AT_ONCE", rows * VOCAB)
    assert_same(step(CASES[name](held(before)), model), whole)


@pytest.mark.parametrize("kind", ["KL", "UNDIAL"])
@in_float64()
def test_with_adapters_on_the_output_too_the_reference_is_the_plain_model(monkeypatch, kind):
    """Pieces are computed when the adapters are on again; what they compare with has none."""
    settings = {"KL": {"gamma": 1.0}, "UNDIAL": {"beta": 3.0, "alpha": 0.5}}[kind]

    model = adapted(["q_proj", "lm_head"])
    plain = tiny_model(0, torch.float64, tie_word_embeddings=False)
    expected = step(make_objective(kind, reference_model=held(plain), **settings), model)
    objective = make_objective(kind, reference_model=partial(adapters_off, model), **settings)
    assert_same(step(objective, model), expected)
    monkeypatch.setattr(forward, "LOGITS_AT_ONCE", 4 * VOCAB)
    assert_same(step(objective, model), expected)
