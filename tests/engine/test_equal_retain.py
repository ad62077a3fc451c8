"""Mixing towards the original: exact at both ends, the bound kept, and as much unlearning as it allows."""

from __future__ import annotations

import copy
import weakref
from dataclasses import replace

import pytest
import torch

from pipeline_lib.core.errors import UserError
from pipeline_lib.data.batching import collate
from pipeline_lib.engine.equal_retain import STEP, mixed, retain_split, rows_at_equal_retain
from pipeline_lib.engine.evaluate import evaluate_model
from pipeline_lib.engine.likelihoods import LikelihoodReader
from pipeline_lib.engine.settings import Parts
from pipeline_lib.metrics.probability import probability
from pipeline_lib.models.forward import summed_nll
from tests.engine.conftest import SETTINGS, settings_of
from tests.questions import encode

LIMITS = {**SETTINGS, "max_new_tokens": 4, "max_tokens_per_batch": 400}
BOUND = 0.05


@pytest.fixture(scope="module")
def original(tiny, records):
    """A model that knows its answers a little, or there would be nothing to retain."""
    model, tokenizer, prompt_format = copy.deepcopy(tiny[0]), *tiny[1:]
    prompts, answers = [r.prompt for r in records], [r.answer for r in records]
    batch = collate(encode(prompts, answers, tokenizer, prompt_format, 200), pad_id=0)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(40):
        optimizer.zero_grad()
        (summed_nll(model, batch).sum() / batch.tokens_in_step).backward()
        optimizer.step()
    return model.eval()


@pytest.fixture(scope="module")
def unlearned(original):
    """Every matrix moved by a few per cent: enough to lose more than the bound."""
    model = copy.deepcopy(original)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.add_(0.3 * parameter.std(correction=0) * noise)
    return model


@pytest.fixture
def splits(records):
    return {"forget": records[:3], "retain": records[3:]}


def at_equal_retain(tiny, load, original, splits, bound=BOUND, **changes):
    return rows_at_equal_retain(load, original, *tiny[1:], splits, settings_of({**LIMITS, **changes}), bound)


def retained(tiny, model, records) -> float:
    """Mean probability of the answers, each text scored in a batch of its own."""
    alone = [replace(record, paraphrased_answer=None, distractors=()) for record in records]
    settings = settings_of({**LIMITS, "max_tokens_per_batch": 1})
    scores = [
        LikelihoodReader(*tiny[1:], "retain", [record], settings).likelihoods(model)[0][0] for record in alone
    ]
    return sum(probability(score.nll, score.tokens) for score in scores) / len(scores)


def same_bits(one, other) -> bool:
    return all(torch.equal(p, q) for p, q in zip(one.parameters(), other.parameters(), strict=True))


def test_mixing_is_exact_at_both_ends(original, unlearned):
    before = copy.deepcopy(original)
    assert same_bits(mixed(copy.deepcopy(unlearned), original, 0.0), original)
    assert same_bits(mixed(copy.deepcopy(unlearned), original, 1.0), unlearned)
    assert same_bits(original, before), "the original stays as it is"


def test_mixing_by_hand():
    one, other = torch.nn.Linear(2, 1, bias=False), torch.nn.Linear(2, 1, bias=False)
    with torch.no_grad():
        one.weight.copy_(torch.tensor([[3.0, -1.0]]))
        other.weight.copy_(torch.tensor([[1.0, 1.0]]))
    assert mixed(one, other, 0.25).weight.tolist() == [[1.5, 0.5]]


def test_the_bound_is_kept_and_a_is_the_largest_up_to_the_resolution(tiny, original, unlearned, splits):
    found = at_equal_retain(tiny, lambda: copy.deepcopy(unlearned), original, splits)
    share, lowest = found["mix"], (1 - BOUND) * retained(tiny, original, splits["retain"])
    assert 0 < share < 1 and share % STEP == 0
    assert found["bound"] == BOUND

    def at(a):
        return retained(tiny, mixed(copy.deepcopy(unlearned), original, a), splits["retain"])

    assert at(share) >= lowest > at(share + STEP)
    assert dict(found["tried"])[share] == pytest.approx(at(share), rel=1e-5)
    assert [a for a, _ in found["tried"][:3]] == [0.0, 1.0, 0.5]
    assert len(found["tried"]) == 2 + 7  # 1/2, ..., 1/128


def test_rows_are_those_of_the_mixed_model(tiny, original, unlearned, splits, tmp_path):
    found = at_equal_retain(tiny, lambda: copy.deepcopy(unlearned), original, splits)
    model = mixed(copy.deepcopy(unlearned), original, found["mix"])
    settings, parts = settings_of(LIMITS), Parts(tmp_path, "mixed")
    rows = evaluate_model(model, *tiny[1:], splits, settings, parts, progress=False)
    for row, whole in zip(found["forget"], rows[:3], strict=True):
        assert set(whole) - set(row) == {"generation", "generation_tokens", "generation_ended", "round_trips"}
        assert {name: whole[name] for name in row} == row
    for row, whole in zip(found["retain"], rows[3:], strict=True):
        assert row["id"] == whole["id"] and row["answer_nll"] == pytest.approx(whole["answer_nll"], rel=1e-5)


def test_a_gentle_model_is_carried_on_until_it_has_lost_as_much(tiny, original, unlearned, splits):
    whole = at_equal_retain(tiny, lambda: copy.deepcopy(unlearned), original, splits)["mix"]
    factor = whole / 1.5

    def gentle():
        return mixed(copy.deepcopy(unlearned), original, factor)

    found = at_equal_retain(tiny, gentle, original, splits)
    lowest = (1 - BOUND) * retained(tiny, original, splits["retain"])
    assert [a for a, _ in found["tried"][:4]] == [0.0, 1.0, 2.0, 1.5]
    assert 1 < found["mix"] < 2 and found["mix"] == pytest.approx(1.5, abs=2 * STEP / factor)
    at = [
        retained(tiny, mixed(gentle(), original, a), splits["retain"])
        for a in (found["mix"], found["mix"] + STEP)
    ]
    assert at[0] >= lowest > at[1]


def test_a_model_that_never_loses_as_much_is_taken_twice_as_far(tiny, original, splits):
    same = at_equal_retain(tiny, lambda: copy.deepcopy(original), original, splits)
    assert same["mix"] == 2.0 and [a for a, _ in same["tried"]] == [0.0, 1.0, 2.0]
    assert len({mean for _, mean in same["tried"]}) == 1


def test_a_model_that_breaks_at_once_is_the_original(tiny, original, splits, tmp_path):
    def ruined():
        model = copy.deepcopy(original)
        with torch.no_grad():
            model.get_input_embeddings().weight.mul_(-1e4)
        return model

    found = at_equal_retain(tiny, ruined, original, splits)
    assert found["mix"] == 0.0
    settings, parts = settings_of(LIMITS), Parts(tmp_path, "original")
    rows = evaluate_model(original, *tiny[1:], splits, settings, parts, progress=False)
    assert [row["answer_nll"] for row in found["forget"]] == [row["answer_nll"] for row in rows[:3]]


def test_no_third_model_is_held(tiny, original, unlearned, splits):
    models: list[weakref.ref] = []

    def load():
        assert not any(model() for model in models), "the one before is still in memory"
        model = copy.deepcopy(unlearned)
        models.append(weakref.ref(model))
        return model

    at_equal_retain(tiny, load, original, splits)
    assert len(models) == 1 + 7 + 1  # whole, bisected, and for the forget questions


def test_only_as_many_records_as_are_evaluated(tiny, original, unlearned, splits):
    found = at_equal_retain(
        tiny, lambda: copy.deepcopy(unlearned), original, splits, max_records={"forget": 2, "retain": 3}
    )
    assert (len(found["forget"]), len(found["retain"])) == (2, 3)


def test_the_retain_split_is_the_one_that_is_judged():
    assert retain_split(["forget", "retain_eval", "world_facts"]) == "retain_eval"
    assert retain_split(["forget", "retain", "facts"]) == "retain"
    with pytest.raises(UserError, match="needs a retain split, but the task evaluates forget, facts only"):
        retain_split(["forget", "facts"])


def test_models_that_do_not_fit_are_refused(original):
    with pytest.raises(UserError, match="have different weights"):
        mixed(torch.nn.Linear(2, 2), original, 0.5)
    with pytest.raises(ValueError, match="mixed in fp32"):
        mixed(copy.deepcopy(original).bfloat16(), original, 0.5)
