"""A task that contradicts its settings or itself is refused in one message, before anything is prepared."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline_lib.core.errors import UserError
from pipeline_lib.data.splits import Task
from pipeline_lib.tasks import task_settings
from pipeline_lib.tasks.base import TaskSettings
from pipeline_lib.tasks.loading import load_task

SIZES = {"n_authors": 4, "questions_per_author": 2, "forget_authors": 1, "n_facts": 3}


def loaded(monkeypatch: pytest.MonkeyPatch, has: bool, taught: bool = True, **changes: Any) -> Task:
    """The task of a few authors, changed, whose settings say whether there is a `retrained`."""
    settings = task_settings({"source": "fictitious", **SIZES})
    plain = settings.load()
    values = {name: getattr(plain, name) for name in Task.__dataclass_fields__}
    monkeypatch.setattr(type(settings), "load", lambda self: Task(**{**values, **changes}))
    monkeypatch.setattr(TaskSettings, "has_retrained", lambda self: has)
    monkeypatch.setattr(TaskSettings, "is_taught", lambda self: taught)
    return load_task(settings)


def test_no_retrained_and_an_empty_list_for_it_mean_the_same(monkeypatch):
    for finetune in ({"target": ["forget", "retain"]}, {"target": ["forget", "retain"], "retrained": []}):
        assert loaded(monkeypatch, False, finetune=finetune).finetune == {"target": ["forget", "retain"]}


def test_an_empty_list_is_the_model_as_it_is_where_there_is_a_retrained(monkeypatch):
    finetune = {"target": ["forget"], "retrained": []}
    assert loaded(monkeypatch, True, finetune=finetune).finetune == finetune


@pytest.mark.parametrize(
    ("has", "changes", "expected"),
    [
        (
            True,
            {"finetune": {"target": ["forget"]}},
            "says that there is a `retrained`, and `finetune` names",
        ),
        (
            False,
            {"finetune": {"target": ["forget"], "retrained": ["retain"]}},
            "there is no `retrained`, and",
        ),
        (False, {"finetune": {"target": []}}, "`finetune` teaches `target` nothing, and `is_taught()` says"),
        (
            False,
            {"finetune": {"target": ["forget"]}, "taught": False},
            "knows the data, and `finetune` names splits to learn",
        ),
        (
            True,
            {"evaluate": ["forget", "retian"]},
            "`evaluate` names retian, and the splits are forget, retain",
        ),
        (True, {"utility": []}, "neither `headline` nor `utility` says what judges it"),
        (True, {"finetune": {"retrained": ["retain"]}}, "`finetune` names no splits for `target`"),
        (
            True,
            {"headline": {"forgetting": [("forget", "probability")]}},
            "`headline` has the sides forgetting; expected forgetting and utility",
        ),
    ],
)
def test_contradictions(monkeypatch, has, changes, expected):
    with pytest.raises(UserError) as caught:
        loaded(monkeypatch, has, **changes)
    assert str(caught.value).startswith("the task contradicts itself: ") and expected in str(caught.value)
