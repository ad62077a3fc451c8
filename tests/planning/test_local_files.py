"""Paths of a suite are looked up before the first job, where a job will read them."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline_lib.config import parse_suite
from pipeline_lib.errors import UserError
from pipeline_lib.planning import check_files
from tests.config.suites import small

TEXT = {"source": "text", "path": "other.txt", "n": 4}


def suite(**changes: Any) -> Any:
    """A suite with a path in a model, a task, a block of the task, and an evaluation."""
    book = {"source": "passages", "book": "book.txt", "retain": TEXT, "n_chunks": 4, "unseen_chunks": 0}
    prompts = {"source": "file", "path": "$NOWHERE/prompts.jsonl"}
    raw = {
        "models": {"own": {"source": "folder", "path": "weights"}},
        "tasks": {"book": book},
        "objectives": {"GradDiff": None},
        "evaluation": {"toxicity": {"classifier": {"kind": "profanity_check"}, "prompts": prompts}},
    }
    return parse_suite(small(**{**raw, **changes}))


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("NOWHERE", raising=False)


def test_every_missing_path_is_named_with_its_place(tmp_path):
    with pytest.raises(UserError) as caught:
        check_files(suite())
    lines = str(caught.value).splitlines()
    nothing = "expected a file or folder at"
    assert lines[0] == "not all files that this suite names are there:"
    assert lines[1] == f"  models.own.path: {nothing} {tmp_path / 'weights'}, found nothing"
    assert lines[2] == f"  tasks.book.book: {nothing} {tmp_path / 'book.txt'}, found nothing"
    assert lines[3] == f"  tasks.book.retain.path: {nothing} {tmp_path / 'other.txt'}, found nothing"
    assert lines[4].startswith("  evaluation of book.toxicity.prompts.path: $NOWHERE/prompts.jsonl: the ")
    assert len(lines) == 5


def test_nothing_is_said_where_all_is_there(tmp_path, monkeypatch):
    monkeypatch.setenv("NOWHERE", str(tmp_path))
    for name in ("book.txt", "other.txt", "prompts.jsonl"):
        (tmp_path / name).write_text("x")
    (tmp_path / "weights").mkdir()
    check_files(suite())


def test_jobs_that_are_done_read_nothing():
    """With the models before unlearning made, only what is measured is still looked for."""
    with pytest.raises(UserError) as caught:
        check_files(suite(), lambda kind, key, trial: kind == "finetune")
    (line,) = str(caught.value).splitlines()[1:]
    assert "prompts.jsonl" in line
    check_files(suite(), lambda kind, key, trial: True)


def test_a_generated_book_and_names_within_a_folder_are_no_paths(tmp_path, monkeypatch):
    monkeypatch.setenv("NOWHERE", str(tmp_path))
    (tmp_path / "prompts.jsonl").write_text("x")
    (tmp_path / "weights").mkdir()
    retain = {"source": "generated", "n": 4}
    book = {"source": "passages", "book": "generated", "retain": retain, "n_chunks": 4, "unseen_chunks": 0}
    (tmp_path / "own").mkdir()
    check_files(suite(tasks={"book": book, "own": {"source": "files", "folder": "own"}}))
