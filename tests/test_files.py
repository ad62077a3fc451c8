"""A file under its final name is whole; what cannot be read is said with file and line."""

from __future__ import annotations

import hashlib

import pytest

from pipeline_lib.errors import UserError
from pipeline_lib.files import (
    atomic_path,
    read_json,
    read_jsonl,
    sha256,
    write_json,
    write_jsonl,
    write_text,
)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a.txt"
    write_text(path, "old")
    with pytest.raises(RuntimeError), atomic_path(path) as temporary:
        temporary.write_text("new, half wri")
        assert path.read_text() == "old"  # also while the new one is being written
        raise RuntimeError
    assert path.read_text() == "old" and names(tmp_path) == ["a.txt"]


def test_a_failure_leaves_the_old_folder_and_nothing_else(tmp_path):
    path = tmp_path / "model"
    with atomic_path(path) as temporary:
        temporary.mkdir()
        (temporary / "weights").write_text("old")
    with pytest.raises(KeyboardInterrupt), atomic_path(path) as temporary:
        temporary.mkdir()
        (temporary / "weights").write_text("new")
        raise KeyboardInterrupt
    assert (path / "weights").read_text() == "old" and names(tmp_path) == ["model"]


def test_a_folder_is_replaced_whole(tmp_path):
    path = tmp_path / "deep" / "model"
    for name in ("one", "two"):
        with atomic_path(path) as temporary:
            (temporary / "inner").mkdir(parents=True)
            (temporary / "inner" / name).write_text(name)
    assert names(path / "inner") == ["two"] and names(path.parent) == ["model"]


def test_what_a_killed_process_left_behind_is_overwritten(tmp_path):
    path = tmp_path / "model"
    with atomic_path(path) as temporary:
        left = temporary
        temporary.mkdir()
    left.mkdir()
    (left / "old").write_text("half")
    with atomic_path(path) as temporary:
        assert not temporary.exists()
        temporary.mkdir()
    assert names(path) == []


def test_nothing_written_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError), atomic_path(tmp_path / "a"):
        pass
    assert names(tmp_path) == []


def test_rows_that_fail_half_way_leave_the_old_rows(tmp_path):
    path = tmp_path / "rows.jsonl"
    write_jsonl(path, [{"a": 1}])

    def rows():
        yield {"a": 2}
        raise OSError("disk")

    with pytest.raises(OSError, match="disk"):
        write_jsonl(path, rows())
    assert read_jsonl(path) == [{"a": 1}] and names(tmp_path) == ["rows.jsonl"]


def test_json_round_trips(tmp_path):
    value = {"text": "é 漢 \u2028 \\ \n", "numbers": [0.1, 1e-300, 12345678901234567890], "none": None}
    write_json(tmp_path / "a.json", value)
    assert read_json(tmp_path / "a.json") == value
    rows = [value, {"b": "line\nbreak\u0085\u2029"}]
    write_jsonl(tmp_path / "a.jsonl", rows)
    assert read_jsonl(tmp_path / "a.jsonl") == rows
    with pytest.raises(ValueError):
        write_json(tmp_path / "a.json", float("nan"))
    assert read_json(tmp_path / "a.json") == value


def test_json_errors_name_the_file(tmp_path):
    path = tmp_path / "a.json"
    with pytest.raises(UserError, match=f"{path}: no such file"):
        read_json(path)
    path.write_text('{"a": ')
    with pytest.raises(UserError, match=f"{path}: not valid JSON.*line 1.*Delete the file"):
        read_json(path)
    path.write_bytes(b'"\xff"')
    with pytest.raises(UserError, match=f"{path}: not valid JSON"):
        read_json(path)


def test_jsonl_errors_name_file_and_line(tmp_path):
    path = tmp_path / "a.jsonl"
    with pytest.raises(UserError, match=f"{path}: no such file"):
        read_jsonl(path)
    for line, problem in [
        (b'{"a": 1', "not valid JSON"),
        (b'{"a": "\xff"}', "not valid JSON"),
        (b"[1]", "expected a JSON object, found list"),
        (b"3", "expected a JSON object, found int"),
    ]:
        path.write_bytes(b'{"a": 1}\n\n' + line + b'\n{"a": 2}\n')
        with pytest.raises(UserError, match=f"{path}, line 3: {problem}"):
            read_jsonl(path)
    path.write_bytes(b'\n{"a": 1}\r\n  \n{"a": 2}')
    assert read_jsonl(path) == [{"a": 1}, {"a": 2}]


def test_sha256_of_a_file(tmp_path):
    content = bytes(range(256)) * 5000  # more than one block
    (tmp_path / "a").write_bytes(content)
    assert sha256(tmp_path / "a") == hashlib.sha256(content).hexdigest()
