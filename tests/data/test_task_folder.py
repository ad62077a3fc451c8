"""The folder of a prepared task: what is read is what was prepared, to the byte."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline_lib.core.errors import UserError
from pipeline_lib.core.files import read_json, write_json
from pipeline_lib.data.records import Record
from pipeline_lib.data.task_folder import load_splits
from tests.prepared import put_split

RECORDS = [Record(f"r{i}", f"Question {i}?", f"Answer {i}.", "g") for i in range(3)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("forget", "retain"):
        put_split(tmp_path, name, RECORDS)
    return tmp_path


def edit_an_answer(folder: Path) -> None:
    path = folder / "forget.jsonl"
    path.write_bytes(path.read_bytes().replace(b"Answer 1.", b"Answer 2."))


def cut_at_a_line(folder: Path) -> None:
    path = folder / "forget.jsonl"
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:2]))


def forget_the_hash(folder: Path) -> None:
    manifest = read_json(folder / "manifest.json")
    del manifest["splits"]["forget"]["sha256"]
    write_json(folder / "manifest.json", manifest)


def test_whole_splits_are_read(folder: Path) -> None:
    assert load_splits(folder, ["retain", "forget"]) == {"retain": RECORDS, "forget": RECORDS}


@pytest.mark.parametrize("change", [edit_an_answer, cut_at_a_line, forget_the_hash])
def test_a_changed_split_is_named_with_the_cure(folder: Path, change) -> None:
    change(folder)
    cure = rf"forget\.jsonl: is not the file that was prepared.*--forcerun {folder}/manifest\.json"
    with pytest.raises(UserError, match=cure):
        load_splits(folder, ["retain", "forget"])
    assert load_splits(folder, ["retain"]) == {"retain": RECORDS}


def test_a_manifest_that_is_none(folder: Path) -> None:
    spoiled = {"[]": "expected a JSON object", "{}": "has no 'splits'", '{"splits": []}': "not the file"}
    for text, said in spoiled.items():
        (folder / "manifest.json").write_text(text)
        with pytest.raises(UserError, match=said):
            load_splits(folder, ["forget"])
