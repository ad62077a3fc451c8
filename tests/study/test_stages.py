"""What is wrong with a suite's stages is told in one message, before any job."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline_lib.core.errors import UserError
from pipeline_lib.core.runs import RunKey, key_from_path
from pipeline_lib.study import parse_suite
from pipeline_lib.study.table import models_of, run_labels
from tests.study.suites import small

AVERAGE = {"kind": "average", "of": ["GradDiff+adamw", "NPO+adamw"]}


def study(stages: dict[str, Any], **changes: Any) -> Any:
    adamw = {"adamw": {"learning_rate": 1e-3}}
    return small(stages=stages, optimizers=adamw, objectives={"GradDiff": None, "NPO": None}, **changes)


@pytest.mark.parametrize(
    ("stages", "expected"),
    [
        ({"a": {"kind": "finetune", "of": ["PO+adamw"]}}, "stages.a.of: found PO+adamw; no model of authors"),
        ({"a": {"kind": "finetune", "of": ["NPO+adamw/b"]}}, "stages.a.of: found NPO+adamw/b; no model"),
        (
            {
                "a": {"kind": "finetune", "of": ["NPO+adamw/b"]},
                "b": {"kind": "finetune", "of": ["NPO+adamw/a"]},
            },
            "stages.a.of: a and b wait for each other",
        ),
        ({"a": {"kind": "finetune", "of": ["a"]}}, "stages.a.of: a wait"),
        ({"NPO": AVERAGE}, "stages.NPO: 'NPO' is the label of another model"),
        ({"original": AVERAGE}, "stages.original: 'original' is the label of another model"),
        ({"A": AVERAGE, "a": AVERAGE}, "stages.a: 'A' is the label of another model"),
        ({"a.b": AVERAGE}, "stages.a.b: a stage's label becomes a part of a folder's name and holds no dot"),
        ({"a": {"kind": "average", "of": ["NPO+adamw"]}}, "stages.a.of: average makes one model of several"),
        ({"a": {"kind": "average"}}, "stages.a.of: average makes one model of several"),
        (
            {"a": {"kind": "average", "of": ["NPO+adamw", "NPO+adamw"]}},
            "stages.a.of: NPO+adamw appears twice",
        ),
        ({"a": {**AVERAGE, "tasks": ["other"]}}, "stages.a.tasks: found 'other'"),
        ({"a": {**AVERAGE, "models": ["other"]}}, "stages.a.models: found 'other'"),
        ({"a": {"kind": "finetune", "task": "other"}}, "stages.a.task: found 'other'"),
        ({"a": {"kind": "finetune", "split": "other"}}, "stages.a.split: found 'other'; allowed: "),
        ({"a": {"kind": "fine-tune"}}, "stages.a.kind: found 'fine-tune'"),
    ],
)
def test_a_wrong_stage_is_refused(stages: dict[str, Any], expected: str) -> None:
    with pytest.raises(UserError) as refused:
        parse_suite(study(stages))
    assert expected in str(refused.value)


def test_a_stage_of_retrained_is_refused_for_a_task_without_one() -> None:
    raw = study({"a": {"kind": "finetune", "of": ["retrained"]}})
    raw["tasks"]["toxic"] = {"source": "detox", "learned": False}
    with pytest.raises(UserError, match="retrained: the task 'toxic' cannot have a `retrained`"):
        parse_suite(raw)
    raw["stages"]["a"]["tasks"] = ["authors"]
    parse_suite(raw)


def test_models_of_stages_are_named_by_what_was_done() -> None:
    stages = {"late": {"kind": "finetune", "of": ["mix"]}, "mix": AVERAGE, "all": {"kind": "finetune"}}
    suite = parse_suite(study(stages, seeds=[3]))
    labels = {
        str(key): label["display"]
        for key, label in zip(models_of(suite), run_labels(models_of(suite)), strict=True)
    }
    staged = {name: shown for name, shown in labels.items() if "." in name or "/mix/" in name}
    assert staged == {
        "authors/tiny/mix/none/seed3": "mix",
        "authors/tiny/mix/none/seed3.late": "mix, then late",
        "authors/tiny/GradDiff/adamw/seed3.all": "GradDiff + AdamW, then all",
        "authors/tiny/NPO/adamw/seed3.all": "NPO + AdamW, then all",
        "authors/tiny/mix/none/seed3.all": "mix, then all",
    }


@pytest.mark.parametrize(
    "key", [RunKey("t", "m", "NPO", "adamw", 7), RunKey("t", "m", "a", "none", 0, 2, "b/c")]
)
def test_a_place_says_whose_it_is(key: RunKey) -> None:
    assert key_from_path(f"results/x/training/{key.folder}/run.json") == key
