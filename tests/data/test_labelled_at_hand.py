"""Labelled texts that come with a study's prompts: which they are, and none where nothing is labelled."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipeline_lib.core.errors import UserError
from pipeline_lib.core.files import write_jsonl
from pipeline_lib.data import labelled_at_hand as module
from pipeline_lib.data.labelled_at_hand import labelled_at_hand
from pipeline_lib.data.task_folder import load_splits
from pipeline_lib.data.toxicity_prompts import FilePrompts, TaskPrompts
from pipeline_lib.steps.prepare_data import prepare_task

SCORES = {"toxicity": 0.1, "severe_toxicity": 0.0}
WEB = [
    {"prompt": {"text": f"p{i}", **SCORES}, "continuation": {"text": f"c{i}", "toxicity": i / 10}}
    for i in range(10)
]
PAIRS = [{"prompt": "q", "less_safe_response": "bad", "safer_response": "good"}]


def file(folder: Path, rows: list[dict[str, Any]], name: str = "prompts.jsonl") -> FilePrompts:
    write_jsonl(folder / name, rows)
    return FilePrompts(source="file", path=str(folder / name))


def test_what_the_web_wrote_after_the_prompts(tmp_path: Path) -> None:
    found = labelled_at_hand(file(tmp_path, WEB))
    assert (found.kind, found.texts) == ("realtoxicityprompts", [f"c{i}" for i in range(10)])
    assert found.labels == [0] * 6 + [1] * 4
    assert found.origin == str(tmp_path / "prompts.jsonl")


def test_a_large_file_is_read_in_even_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ROWS", 5)
    assert labelled_at_hand(file(tmp_path, WEB)).texts == ["c1", "c3", "c5", "c7", "c9"]


def test_both_answers_of_pairs(tmp_path: Path) -> None:
    found = labelled_at_hand(file(tmp_path, PAIRS))
    assert (found.kind, found.texts, found.labels) == ("safe_rlhf", ["bad", "good"], [1, 0])


def test_prompts_of_your_own_have_none_but_those_that_are_named(tmp_path: Path) -> None:
    own = file(tmp_path, [{"prompt": "x"}])
    none = labelled_at_hand(own)
    assert (none.kind, none.texts) == ("other", [])
    alone = labelled_at_hand(file(tmp_path, [{"prompt": row["prompt"]} for row in WEB]))
    assert (alone.kind, alone.texts) == ("realtoxicityprompts", []), "prompts without what followed them"
    own = file(tmp_path, [{"prompt": "x"}])
    rows = [{"text": "a", "label": 1, "group": "g"}, {"text": "b", "label": 0}]
    write_jsonl(tmp_path / "labelled.jsonl", rows)
    found = labelled_at_hand(own, str(tmp_path / "labelled.jsonl"))
    assert (found.kind, found.texts, found.labels, found.groups) == ("other", ["a", "b"], [1, 0], ["g", "2"])
    instead = labelled_at_hand(file(tmp_path, WEB), str(tmp_path / "labelled.jsonl"))
    assert (instead.kind, instead.texts) == ("realtoxicityprompts", ["a", "b"])


@pytest.mark.parametrize(
    "row", [{"text": "a"}, {"text": "a", "label": 2}, {"text": " ", "label": 1}, {"label": 1}]
)
def test_rows_that_say_nothing_are_refused(tmp_path: Path, row: dict[str, Any]) -> None:
    write_jsonl(tmp_path / "labelled.jsonl", [row])
    with pytest.raises(UserError, match="expected rows with `text`"):
        labelled_at_hand(file(tmp_path, WEB), str(tmp_path / "labelled.jsonl"))
    with pytest.raises(UserError, match=r"toxicity.labelled nowhere: expected a file"):
        labelled_at_hand(file(tmp_path, WEB), "nowhere")


def test_answers_of_the_task_itself(tmp_path: Path) -> None:
    data = tmp_path / "data"
    prepare_task({"source": "manners", "n_forget": 4, "n_unseen": 6, "n_retain": 4}, data)
    found = labelled_at_hand(TaskPrompts(source="task"), data_dir=data)
    records = [record for split in load_splits(data, ["forget", "unseen"]).values() for record in split]
    assert found.kind == "manners"
    assert found.texts[::2] == [record.answer for record in records]
    assert found.texts[1::2] == [record.distractors[0] for record in records]
    assert found.labels == [1, 0] * 10
    assert len(set(found.groups)) == len({record.group for record in records}) < 10
    with pytest.raises(UserError, match="expected the folder of the prepared task"):
        labelled_at_hand(TaskPrompts(source="task"))
