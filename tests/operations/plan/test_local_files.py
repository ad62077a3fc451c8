"""Paths of a suite are looked up before the first job, where a job will read them."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline_lib.operations.plan.inputs import missing_files
from pipeline_lib.study import parse_suite
from tests.study.suites import small

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
    nothing = "expected a file or folder at"
    found = missing_files(suite())
    assert found[:3] == [
        ("models.own.path", f"{nothing} {tmp_path / 'weights'}, found nothing; correct the path"),
        ("tasks.book.book", f"{nothing} {tmp_path / 'book.txt'}, found nothing; correct the path"),
        ("tasks.book.retain.path", f"{nothing} {tmp_path / 'other.txt'}, found nothing; correct the path"),
    ]
    where, message = found[3]
    assert where == "evaluation of book.toxicity.prompts.path"
    assert message.startswith("$NOWHERE/prompts.jsonl: the environment variable NOWHERE is not set")
    assert len(found) == 4


def test_nothing_is_said_where_all_is_there(tmp_path, monkeypatch):
    monkeypatch.setenv("NOWHERE", str(tmp_path))
    for name in ("book.txt", "other.txt", "prompts.jsonl"):
        (tmp_path / name).write_text("x")
    (tmp_path / "weights").mkdir()
    assert missing_files(suite()) == []


def test_jobs_that_are_done_read_nothing():
    """With the models before unlearning made, only what is measured is still looked for."""
    ((where, _),) = missing_files(suite(), lambda job: job.rule in ("finetune", "base"))
    assert where.endswith("prompts.path")
    assert missing_files(suite(), lambda job: True) == []


def test_a_generated_book_and_names_within_a_folder_are_no_paths(tmp_path, monkeypatch):
    monkeypatch.setenv("NOWHERE", str(tmp_path))
    (tmp_path / "prompts.jsonl").write_text("x")
    (tmp_path / "weights").mkdir()
    retain = {"source": "generated", "n": 4}
    book = {"source": "passages", "book": "generated", "retain": retain, "n_chunks": 4, "unseen_chunks": 0}
    (tmp_path / "own").mkdir()
    assert missing_files(suite(tasks={"book": book, "own": {"source": "files", "folder": "own"}})) == []
