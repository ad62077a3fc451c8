"""Hostile ids and texts on their way through the preparation of data: shown as codes, kept as they are."""

from __future__ import annotations

import io
import json
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any

import pytest

from pipeline_lib.core.errors import UserError
from pipeline_lib.core.joblog import JobLog
from pipeline_lib.data.task_folder import load_splits
from pipeline_lib.steps.prepare_data import prepare_task

HOSTILE = "a\x1b[2J\u202eb\n\x07"


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def rows(start: int, **more: Any) -> list[dict[str, Any]]:
    return [
        {
            "prompt": f"What is the number {start + i}?",
            "answer": f"It is the number {start + i}.",
            "distractors": ["No."],
            **more,
        }
        for i in range(3)
    ]


@pytest.fixture
def own(tmp_path: Path) -> Path:
    write(tmp_path / "forget.jsonl", rows(0))
    write(tmp_path / "retain.jsonl", rows(100))
    return tmp_path


def prepared(own: Path) -> tuple[dict[str, Any], str]:
    """The manifest, and the log as the job would write it."""
    log = io.StringIO()
    stream = JobLog(log)
    with redirect_stderr(stream):
        manifest = prepare_task({"source": "files", "folder": str(own)}, own / "prepared")
    stream.close()
    return manifest, log.getvalue()


def test_what_was_filled_in_stands_in_log_and_manifest(own: Path) -> None:
    manifest, log = prepared(own)
    said = "forget.jsonl: 3 of 3 records without id: numbered, the first 'forget-00001'"
    assert said in manifest["notes"] and said in log
    assert any("3 groups in all" in note for note in manifest["notes"])
    assert manifest["warnings"] == [] and manifest["splits"]["forget"]["groups"] == 3


def test_warnings_name_hostile_ids_as_codes(own: Path) -> None:
    twice = {"prompt": "Who is it?", "answer": "It is nobody that you know.", "distractors": ["x", "x"]}
    write(own / "forget.jsonl", [*rows(0), {**twice, "id": HOSTILE}, {**twice, "id": HOSTILE.upper()}])
    manifest, log = prepared(own)
    assert len(manifest["warnings"]) == 3, "repeated record, ids alike, repeated distractors"
    assert log.count("warning: forget: ") == 3
    assert not set("\x1b\u202e\x07") & set(log)
    assert [r.id for r in load_splits(own / "prepared", ["forget"])["forget"]][3] == HOSTILE


def test_errors_name_hostile_ids_as_codes(own: Path) -> None:
    write(own / "forget.jsonl", [{**rows(0)[0], "id": HOSTILE, "distractors": ["It is the number 0."]}])
    with pytest.raises(UserError, match="equals the right answer") as caught:
        prepared(own)
    assert not set("\x1b\u202e\x07") & set(str(caught.value))
    write(own / "forget.jsonl", [{**rows(100)[0], "id": HOSTILE}])
    with pytest.raises(UserError, match="overlap") as caught:
        prepared(own)
    assert not set("\x1b\u202e\x07\n") & set(str(caught.value)), "and stays on its line"
