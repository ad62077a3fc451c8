"""Lengths that cannot fit a model, found from the settings before any job starts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipeline_lib import __main__ as command
from pipeline_lib.core.errors import UserError
from pipeline_lib.operations.plan import check_inputs, context_faults
from pipeline_lib.operations.plan.context import layer_faults
from pipeline_lib.study import dump_suite, load_suite, parse_suite
from tests.paths import REPO
from tests.study.suites import COMMIT, small

SIZES = {
    "parameters": 100_000,
    "hidden_size": 64,
    "layers": 2,
    "vocab_size": 99,
    "intermediate_size": 128,
    "heads": 4,
}


def faults(**changes: Any) -> list[tuple[str, str]]:
    return list(context_faults(parse_suite(small(**changes))))


def hub(**changes: Any) -> dict[str, Any]:
    return {"far": {"source": "hub", "id": "lab/far", "revision": COMMIT, "shape": SIZES, **changes}}


def test_shipped_suites_fit() -> None:
    for path in (REPO / "config.yaml", *(REPO / "config").glob("*.yaml")):
        assert not list(context_faults(load_suite(path)))


def test_answers_as_long_as_the_context_leave_no_room_for_a_prompt() -> None:
    models = {"tiny": {"source": "scratch", "max_length": 64}}
    assert not faults(models=models, evaluation={"max_new_tokens": 63})
    ((path, message),) = faults(models=models, evaluation={"max_new_tokens": 64})
    assert path == "evaluation.max_new_tokens"
    assert "at most 64 tokens" in message
    tasks = {"authors": {"source": "fictitious", "evaluation": {"max_new_tokens": 70}}}
    ((path, _),) = faults(models=models, tasks=tasks)
    assert path == "tasks.authors.evaluation.max_new_tokens"


def test_a_soft_prompt_as_long_as_the_context_leaves_no_room() -> None:
    models = {"tiny": {"source": "scratch", "max_length": 64}}
    soft = {"kind": "ask", "of": ["original"], "soft_prompt": {"tokens": 64}}
    ((path, message),) = faults(models=models, evaluation={"max_new_tokens": 8}, stages={"a": soft})
    assert path == "stages.a.soft_prompt.tokens"
    assert message.startswith("found 64, and the model 'tiny' reads at most 64 tokens")
    fewer = {**soft, "soft_prompt": {"tokens": 63}}
    assert not faults(models=models, evaluation={"max_new_tokens": 8}, stages={"a": fewer})


def test_sequences_longer_than_the_model_reads() -> None:
    context = {**SIZES, "context": 2048}
    assert not faults(models=hub(shape=context, max_length=2048))
    ((path, message),) = faults(models=hub(shape=context, max_length=4096))
    assert path == "models.far.max_length"
    assert message == "the model reads at most 2048 tokens; found 4096; set it to at most 2048"
    assert not faults(models=hub(max_length=4096)), "a context nobody knows is no fault"


def test_a_passage_whose_prompt_fills_the_sequence() -> None:
    task = {"source": "passages", "book": "generated", "chunk_tokens": 200, "prompt_tokens": [20, 130]}
    tasks = {"book": {**task, "retain": {"source": "generated"}}}
    assert not faults(models={"tiny": {"source": "scratch", "max_length": 131}}, tasks=tasks)
    ((path, message),) = faults(models={"tiny": {"source": "scratch", "max_length": 130}}, tasks=tasks)
    assert path == "tasks.book.prompt_tokens"
    assert "a prompt of 130 tokens leaves no room" in message
    assert "models.tiny.max_length" in message


def test_all_faults_come_in_one_message_before_the_plan(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    models = hub(shape={**SIZES, "context": 32}, max_length=40)
    suite = parse_suite(small(models=models, evaluation={"max_new_tokens": 50}))
    with pytest.raises(UserError) as error:
        check_inputs(suite)
    assert len(str(error.value).splitlines()) == 4, "a head, two faults, and what lies on the hub"
    (tmp_path / "suite.yaml").write_text(dump_suite(suite))
    assert command.main(["plan", str(tmp_path / "suite.yaml")]) == 1
    assert "models.far.max_length" in capsys.readouterr().err


def test_more_layers_than_a_model_has() -> None:
    def found(evaluation: dict[str, Any], **changes: Any) -> list[tuple[str, str]]:
        return list(layer_faults(parse_suite(small(evaluation={"inside": evaluation}, **changes))))

    assert not found({"layers": 3}), "of four"
    told = "model 'tiny': found 4, and the model has 4 layers; take at most 3, or `all`"
    assert found({"layers": 4}) == [("evaluation.inside.layers", told)]
    assert not found({"layers": "all"}, models=hub())
    ((path, message),) = found({"layers": 2}, models=hub())
    assert (path, message[:12]) == ("evaluation.inside.layers", "model 'far':")
    ((_, message),) = found({}, models={"tiny": {"source": "scratch", "layers": 1}})
    assert "needs a model of two layers or more" in message
    own = {"authors": {"source": "fictitious", "evaluation": {"inside": {"layers": 9}}}}
    ((path, _),) = layer_faults(parse_suite(small(tasks=own)))
    assert path == "tasks.authors.evaluation.inside.layers"
    with pytest.raises(UserError, match="so no job is started"):
        check_inputs(parse_suite(small(tasks=own)))
