"""An edited measurement is refused by whoever reads it."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline_lib.core.errors import UserError
from pipeline_lib.core.sealing import seal_file, seal_path, sealed_jsonl, sealed_object, write_sealed_jsonl
from pipeline_lib.reporting.inputs import Inputs
from pipeline_lib.steps import choose, score
from pipeline_lib.steps.job import Job
from tests.reporting.study import Study

ROWS = [{"split": "retain", "id": "a", "answer_nll": 1.0, "answer_tokens": 2}, {"split": "forget", "id": "b"}]


def edit(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"1.0", b"0.1"))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def unseal(path: Path) -> None:
    seal_path(path).unlink()


def spoil_the_seal(path: Path) -> None:
    seal_path(path).write_bytes(b"\xff\x00")


def exchange(path: Path) -> None:
    """Another file's measurements with their own seal."""
    other = path.with_name("other.jsonl")
    write_sealed_jsonl(other, [])
    shutil.copy(other, path)
    shutil.copy(seal_path(other), seal_path(path))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "records.jsonl"
    write_sealed_jsonl(path, ROWS)
    return path


def test_what_was_written_is_read_and_anybody_can_check_it(path: Path) -> None:
    assert sealed_jsonl(path) == ROWS
    done = subprocess.run(
        ["sha256sum", "--check", seal_path(path).name],
        cwd=path.parent,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "records.jsonl: OK\n"


@pytest.mark.parametrize("change", [edit, cut, unseal, spoil_the_seal, exchange])
def test_anything_else_is_refused_with_the_cure(path: Path, change: Callable[[Path], None]) -> None:
    change(path)
    with pytest.raises(UserError, match=rf"(is not what its job wrote|has no seal).*--forcerun {path}"):
        sealed_jsonl(path)


def test_a_copy_without_its_seal_is_read_where_that_is_allowed(path: Path) -> None:
    unseal(path)
    assert sealed_jsonl(path, needed=False) == ROWS
    seal_file(path)
    edit(path)
    with pytest.raises(UserError, match="is not what its job wrote"):
        sealed_jsonl(path, needed=False)
    with pytest.raises(UserError, match="no such file"):
        sealed_jsonl(path.with_name("none.jsonl"), needed=False)


def test_objects_are_sealed_alike(tmp_path: Path) -> None:
    path = tmp_path / "equal_retain.json"
    path.write_text('{"status": "off"}\n')
    seal_file(path)
    assert sealed_object(path, "status") == {"status": "off"}
    path.write_text('{"status": "ok"}\n')
    with pytest.raises(UserError, match="is not what its job wrote"):
        sealed_object(path, "status")


def test_score_and_choose_refuse_edited_records(path: Path, tmp_path: Path) -> None:
    """The readers of a study's graph: the run's own records, the retrained model's, and those of tuning."""
    (tmp_path / "run.json").write_text('{"status": "ok", "diverged_step": null}')
    (tmp_path / "manifest.json").write_text("{}")
    (tmp_path / "equal_retain.json").write_text('{"status": "off"}')
    seal_file(tmp_path / "equal_retain.json")
    whole = tmp_path / "whole" / "records.jsonl"
    write_sealed_jsonl(whole, ROWS)
    edit(path)
    for own, reference in ((path, whole), (whole, path)):
        with pytest.raises(UserError, match=f"{path}: is not what its job wrote"):
            files = {name: tmp_path / f"{name}.json" for name in ("run", "equal_retain", "manifest")}
            files |= {"records": own, "reference": reference}
            score.run(Job({}, files, {"metrics": tmp_path / "metrics.json"}))
    (tmp_path / "manifest.json").write_text('{"evaluate": [], "utility": [], "multiple_choice": []}')
    for edited in ("original", "retrained"):
        read: dict[str, Any] = {"manifest": tmp_path / "manifest.json", "trials": []}
        read |= {"original": [], "retrained": [], edited: [path]}
        settings = {"seeds": [0] * len(read["original"]), "select": {"forget": "gap"}}
        with pytest.raises(UserError, match=f"{path}: is not what its job wrote"):
            choose.run(Job(settings, read, {"chosen": tmp_path / "chosen.json"}))


def test_the_report_refuses_edited_records(tmp_path: Path) -> None:
    study = Study(tmp_path, seeds=(1,), diverged={}).write()
    inputs = Inputs(study.paths("runs.json", "manifest.json", "records.jsonl"))
    edited = study.paths("records.jsonl")[0]
    edited.write_bytes(edited.read_bytes().replace(b"a", b"b", 1))
    with pytest.raises(UserError, match=f"{edited}: is not what its job wrote"):
        _ = inputs.records
