"""What the plan counts for answers, against what a batch of them holds."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline_lib.engine import cache, wanted
from pipeline_lib.engine.generation import generate
from pipeline_lib.engine.settings import Decoding
from pipeline_lib.models.scratch import build_scratch
from pipeline_lib.models.settings import ScratchModel
from pipeline_lib.operations.plan import measuring
from pipeline_lib.operations.plan.device import Device
from pipeline_lib.operations.plan.measuring import Benchmarking, Evaluating
from pipeline_lib.operations.plan.shape import Shape, shape_of
from pipeline_lib.operations.plan.sizes import Lengths
from pipeline_lib.study.evaluation import Benchmarks, Evaluation

SIZES = ScratchModel(source="scratch", vocab_size=400, layers=3, hidden_size=32, heads=4, kv_heads=2)
CPU = Device("cpu", None, 1, None)


def shape() -> Shape:
    found = shape_of(SIZES)
    assert found is not None
    return found


def split(records: int, prompt: int) -> Lengths:
    return Lengths(records, prompt, 10.0, prompt + 10, 3, "nothing")


def evaluating(answered: dict[str, Lengths], **settings: Any) -> Evaluating:
    evaluation = Evaluation.model_validate({"max_tokens_per_batch": 2000, "max_new_tokens": 30, **settings})
    return Evaluating(shape(), CPU, evaluation, answered, {}, False)


@pytest.mark.parametrize("budget", [300, 2000])
def test_keys_and_values_are_those_of_a_batch(monkeypatch: pytest.MonkeyPatch, budget: int) -> None:
    held: list[int] = []
    own = cache.ReservedLayer.update

    def update(layer: Any, *arguments: Any, **options: Any) -> Any:
        found = own(layer, *arguments, **options)
        held.append(sum(buffer.nbytes for buffer in layer.buffers))
        return found

    monkeypatch.setattr(cache.ReservedLayer, "update", update)
    model, _ = build_scratch(SIZES, ["a b c"], 0)
    prompts = [[5 + i % 7] * 20 for i in range(60)]
    generate(model, prompts, Decoding([10**6], 0, budget), max_new_tokens=30)
    told = evaluating({"forget": split(60, 20)}, max_tokens_per_batch=budget).phases()
    assert 0.9 < max(held) * SIZES.layers / told["generating"]["keys and values"] <= 1


def test_rows_are_those_of_a_batch() -> None:
    assert (measuring.SHARE, measuring.LEAST) == (wanted.SHARE, wanted.LEAST)
    model, _ = build_scratch(SIZES, ["a b c"], 0)
    for limit in (5, 30, 200):
        rows = [wanted.Wanted(i, i, [5] * 20, limit, 20) for i in range(100)]
        assert evaluating({}).fitting(20, limit) == wanted.fitting(model, (), rows, 2000)


def test_the_split_with_most_to_hold_counts() -> None:
    short, long = split(1000, 5), split(15, 100)
    both = evaluating({"short": short, "long": long}).phases()["generating"]
    assert both == evaluating({"long": long}).phases()["generating"]
    assert (
        both["keys and values"] > evaluating({"few": split(10, 5)}).phases()["generating"]["keys and values"]
    )


def test_answers_wait_while_texts_are_scored() -> None:
    answered = {"forget": split(60, 20)}
    phases = evaluating(answered).phases()
    assert phases["scoring"]["keys and values"] == phases["generating"]["keys and values"]
    assert "keys and values" not in evaluating(answered, compute="bf16").phases()["scoring"]
    assert "keys and values" not in evaluating({}).phases()["scoring"]


def test_tasks_of_lm_eval_may_answer() -> None:
    def phases(**asked: Any) -> set[str]:
        return set(Benchmarking(shape(), CPU, Evaluation(), Benchmarks.model_validate(asked)).phases())

    assert phases(tasks=["piqa"]) == {"scoring"}
    assert phases(tasks=[], lm_eval={"gsm8k": None}) == {"scoring", "generating"}
