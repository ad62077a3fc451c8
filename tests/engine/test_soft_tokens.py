"""Soft tokens: what is read as a token's own vector is read as that token, and nothing predicts them."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch

from pipeline_lib.data.records import Record
from pipeline_lib.models.encoding import encode_records
from pipeline_lib.models.soft_tokens import SoftPromptFormat, soft_numbers, soft_tokens
from tests.engine.test_engine import evaluate

REAL = (17, 40, 3, 40)
TEXTS = [
    Record(f"t{i}", f"It was dark and the river {i} ran", f" fast by {i} and was wide.", f"g{i}", form="text")
    for i in range(3)
]


@pytest.mark.parametrize("tied", [False, True])
def test_vectors_of_real_tokens_give_the_rows_of_these_tokens(tiny, records, tmp_path, tied) -> None:
    """Likelihoods, spread, greedy and drawn answers, of questions and of running text."""
    model, tokenizer, plain = tiny
    assert model.lm_head.weight is model.model.embed_tokens.weight
    if not tied:
        model = copy.deepcopy(model)
        model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.detach().flip(0))
    fields = plain.to_dict()
    real = SoftPromptFormat(**fields, soft=REAL)
    soft = replace(real, soft=soft_numbers(model, len(REAL)))
    splits = {
        "forget": [replace(record, opening="Sure:") for record in records[:3]],
        "retain": records[3:],
        "book": TEXTS,
    }
    changes = {
        "distribution_splits": ["forget"],
        "samples": {"n": 3, "temperature": 0.8, "top_p": 0.9, "splits": ["retain"]},
    }
    asked = evaluate((model, tokenizer, real), splits, tmp_path / "real", **changes)
    with soft_tokens(model, model.get_input_embeddings().weight[list(REAL)].detach()):
        found = evaluate((model, tokenizer, soft), splits, tmp_path / "soft", **changes)
    assert found == asked
    without = evaluate((model, tokenizer, plain), splits, tmp_path / "plain", **changes)
    assert all(a["answer_nll"] != b["answer_nll"] for a, b in zip(found, without, strict=True))


def test_they_stand_before_the_answer_and_its_opening_and_are_never_shown(tiny) -> None:
    model, tokenizer, plain = tiny
    numbers = soft_numbers(model, 2)
    assert numbers == (len(tokenizer), len(tokenizer) + 1)
    soft = SoftPromptFormat(**plain.to_dict(), soft=numbers)
    question = Record("q", "Why?", "So.", "g", opening="Sure:")
    for record in (question, replace(question, opening=""), TEXTS[0]):
        (with_them,) = encode_records([record], tokenizer, soft, 200, learn=False)
        (without,) = encode_records([record], tokenizer, plain, 200, learn=False)
        given = len(plain.encode_opening(tokenizer, record.opening)) if record.opening else 0
        place = without.prompt_length - given
        assert with_them.tokens == (*without.tokens[:place], *numbers, *without.tokens[place:])
        assert with_them.prompt_length == without.prompt_length + 2
    prompt = with_them.tokens[: with_them.prompt_length]
    answer = with_them.tokens[with_them.prompt_length :]
    assert soft.decode_text(tokenizer, prompt, answer) == plain.decode_text(
        tokenizer, without.tokens[: without.prompt_length], answer
    )


def test_the_model_is_as_before_afterwards(tiny) -> None:
    model, *_ = tiny
    tokens, soft = torch.tensor([[1, 2, 3]]), torch.tensor([[1, soft_numbers(model, 2)[1], 3]])
    before = model(tokens).logits
    vectors = torch.randn(2, 32, requires_grad=True)
    with soft_tokens(model, vectors):
        assert torch.equal(model(tokens).logits, before)
        inside = model(soft).logits
        assert inside.shape == before.shape
        (gradient,) = torch.autograd.grad(inside[0, -1, 5], vectors)
    assert gradient[0].abs().max() == 0 and gradient[1].abs().max() > 0
    assert torch.equal(model(tokens).logits, before)
    with pytest.raises(IndexError):
        model(soft)
