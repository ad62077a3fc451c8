"""The step that learns a soft prompt, held against slopes that are measured, and what it leaves alone."""

from __future__ import annotations

import copy

import pytest
import torch

from pipeline_lib.core.errors import UserError
from pipeline_lib.engine.forward_pass import TextLikelihood
from pipeline_lib.engine.likelihoods import group_likelihoods
from pipeline_lib.engine.soft_prompt import Softening
from pipeline_lib.models.encoding import encode_records
from pipeline_lib.models.soft_tokens import SoftPromptFormat, soft_numbers, soft_tokens
from pipeline_lib.stages.ask import SoftPrompt
from tests.engine.conftest import SETTINGS, settings_of

SCORING = settings_of(SETTINGS)


@pytest.fixture
def double(tiny):
    model, *others = tiny
    return (copy.deepcopy(model).double().eval(), *others)


def learned(setup, records, seed=0, **settings):
    """The vectors (S, D) that are learned, and what is told of the questions."""
    model, tokenizer, plain = setup
    block = SoftPrompt(**{"tokens": 2, "steps": 1, "batch_size": 99, "groups": 2, **settings}).model_dump()
    with Softening(block, model, tokenizer, seed).learned(plain, records, SCORING) as (_, told):
        numbers = torch.tensor(soft_numbers(model, block["tokens"]))
        return model.get_input_embeddings()(numbers).detach(), told


def test_a_step_goes_down_the_measured_slope_by_its_share_of_the_scale(double, records) -> None:
    model, tokenizer, plain = double
    start, _ = learned(double, records, learning_rate=1e-14)
    end, told = learned(double, records, learning_rate=0.5)
    taught = [record for record in records if record.group in ("author0", "author1")]
    asked = SoftPromptFormat(**plain.to_dict(), soft=soft_numbers(model, 2))
    examples = [[example] for example in encode_records(taught, tokenizer, asked, 200, learn=False)]

    def texts(vectors: torch.Tensor) -> list[TextLikelihood]:
        with soft_tokens(model, vectors):
            found = group_likelihoods(model, examples, max_tokens_per_batch=400, pad_id=0)
        return [text for (text,) in found]

    step = 0.5 * float(start.square().mean().sqrt())
    for place in ((0, 0), (0, 7), (1, 3), (1, 31)):
        up, down = start.clone(), start.clone()
        up[place] += 1e-5
        down[place] -= 1e-5
        slope = sum(a.nll - b.nll for a, b in zip(texts(up), texts(down), strict=True))
        moved = float((end - start)[place])
        assert moved == pytest.approx(-step if slope > 0 else step, rel=1e-6), place
    assert set(told) == {record.id for record in taught}
    for name, vectors in (("nll_before", start), ("nll_after", end)):
        expected = [text.nll / text.tokens for text in texts(vectors)]
        assert [told[record.id][name] for record in taught] == pytest.approx(expected, rel=1e-6)


def test_it_begins_with_tokens_of_the_vocabulary_and_no_weight_changes(double, records) -> None:
    model = double[0]
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    model.model.norm.weight.requires_grad_(False)
    start, _ = learned(double, records, learning_rate=1e-14)
    table = model.get_input_embeddings().weight
    assert all((table - row).abs().amax(dim=1).min() < 1e-9 for row in start)
    assert not torch.equal(start, learned(double, records, seed=1, learning_rate=1e-14)[0])
    learned(double, records, steps=5)
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())
    wanted = {name: value.requires_grad for name, value in model.named_parameters()}
    assert [name for name, wants in wanted.items() if not wants] == ["model.norm.weight"]


def test_a_broken_model_is_an_error(double, records) -> None:
    double[0].model.norm.weight.data[0] = float("nan")
    with pytest.raises(UserError, match="if a plain evaluation fails too, the model's weights are broken"):
        learned(double, records)


def test_random_targets_are_as_long_and_end_as_the_answers_do(double, records) -> None:
    model, tokenizer, plain = double
    told = {name: learned(double, records, targets=name)[1] for name in ("answers", "random")}
    other = learned(double, records, targets="random", seed=1)[1]
    asked = SoftPromptFormat(**plain.to_dict(), soft=soft_numbers(model, 2))
    examples = encode_records(records[:2], tokenizer, asked, 200, learn=False)
    block = SoftPrompt(tokens=2, targets="random").model_dump()
    drawn = Softening(block, model, tokenizer, 0)._random(examples, records[:2])
    for example, random in zip(examples, drawn, strict=True):
        place = example.prompt_length
        assert random.tokens[:place] == example.tokens[:place] and random.prompt_length == place
        assert len(random.tokens) == len(example.tokens) and random.tokens[-1] == example.tokens[-1]
        assert not set(random.tokens[place:-1]) & set(tokenizer.added_tokens_decoder)
    for record in records[:2]:
        assert told["answers"][record.id]["target"].startswith(record.answer)
        assert told["random"][record.id]["target"] not in (
            told["answers"][record.id]["target"],
            other[record.id]["target"],
        )


def test_each_question_is_learned_once_in_a_round(double, records, monkeypatch) -> None:
    seen: list[int] = []
    whole = Softening._gradient

    def noting(self, vectors, examples):
        seen.extend(example.index for example in examples)
        return whole(self, vectors, examples)

    monkeypatch.setattr(Softening, "_gradient", noting)
    learned(double, records, steps=6, batch_size=2)  # five questions: rounds of 2, 2 and 1
    assert sorted(seen[:5]) == sorted(seen[5:]) == [0, 1, 2, 3, 4] and seen[:5] != seen[5:]
