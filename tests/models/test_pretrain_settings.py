"""The block `pretrain` of a suite: what it takes, and what it is refused for, in one message."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline_lib.models.pretrain_settings import Pretrain
from pipeline_lib.study import parse_suite
from tests.study.suites import COMMIT, errors, small

TEXT = [{"path": "story.txt"}]


def models(pretrain: dict[str, Any], **others: Any) -> dict[str, Any]:
    return small(models={"mini": {"source": "scratch", "pretrain": pretrain, **others}})


def test_steps_are_counted_in_tokens_of_whole_steps() -> None:
    given = {"text": TEXT, "tokens": 100_000, "batch_size": 4, "accumulation": 2, "context": 64}
    assert Pretrain.model_validate(given).steps_in(128) == 195  # 100,000 / (8 x 64) = 195.3
    assert Pretrain.model_validate({**given, "context": None}).steps_in(128) == 98
    assert Pretrain.model_validate({"text": TEXT, "steps": 7}).steps_in(128) == 7


@pytest.mark.parametrize(
    ("pretrain", "lines"),
    [
        ({"text": TEXT}, ["tokens: give either `tokens` or `steps`"]),
        ({"text": TEXT, "steps": 1, "tokens": 1}, ["tokens: give either `tokens` or `steps`"]),
        ({"text": [], "steps": 1}, ["text: found an empty list; must not be empty"]),
        (
            {"text": [{}, {"path": "a", "hub": "a/b"}], "steps": 1},
            [
                "text.0.path: give either `path`, or `hub` with `revision` and `file`",
                "text.1.path: give either `path`, or `hub` with `revision` and `file`",
            ],
        ),
        (
            {"text": [{"hub": "a/b", "revision": COMMIT}], "steps": 1},
            ["text.0.file: goes with `hub`, and is missing"],
        ),
        (
            {"text": TEXT, "steps": 1, "context": 129},
            ["context: found 129; must be at most `max_length` (128)"],
        ),
        ({"text": TEXT, "steps": 1, "held_out": 1}, ["held_out: found 1; must be smaller than 1"]),
    ],
)
def test_every_fault_is_told_with_its_place(pretrain: dict[str, Any], lines: list[str]) -> None:
    assert errors(models(pretrain)) == [f"models.mini.pretrain.{line}" for line in lines]


def test_only_a_model_from_scratch_is_pretrained() -> None:
    others = {
        "folder": {"source": "folder", "path": "x"},
        "gguf": {"source": "gguf", "path": "x.gguf"},
        "hub": {"source": "hub", "id": "a/b", "revision": COMMIT},
    }
    raw = small(models={k: {**v, "pretrain": {"text": TEXT, "steps": 1}} for k, v in others.items()})
    message = "goes with `source: scratch`; other models are pretrained already, so leave it out"
    assert errors(raw) == [f"models.{label}.pretrain: {message}" for label in others]


def test_models_without_the_block_keep_their_identity() -> None:
    (model,) = parse_suite(small()).models.values()
    assert "pretrain" not in model.model_dump()
