"""A file under its final name is whole; what cannot be read is said with file and line."""

from __future__ import annotations

import errno
import hashlib
import os
import subprocess
import sys

import pytest

from pipeline_lib.core import files
from pipeline_lib.core.errors import UserError
from pipeline_lib.core.files import (
    atomic_path,
    check_seal,
    crc32,
    read_json,
    read_jsonl,
    remove_leftovers,
    seal,
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
    with pytest.raises(UserError, match=f"{path}: not valid JSON.*line 1.*--forcerun"):
        read_json(path)
    path.write_bytes(b'"\xff"')
    with pytest.raises(UserError, match=f"{path}: not UTF-8"):
        read_json(path)


def test_jsonl_errors_name_file_and_line(tmp_path):
    path = tmp_path / "a.jsonl"
    with pytest.raises(UserError, match=f"{path}: no such file"):
        read_jsonl(path)
    for line, problem in [
        (b'{"a": 1', "not valid JSON"),
        (b'{"a": "\xff"}', "not UTF-8"),
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


def test_a_folder_is_never_missing_while_it_is_replaced(tmp_path, monkeypatch):
    path = tmp_path / "model"
    (tmp_path / "one").mkdir()
    (tmp_path / "other").mkdir()
    if not files._exchange(tmp_path / "one", tmp_path / "other"):
        pytest.skip("this system or file system cannot exchange two names in one step")
    with atomic_path(path) as temporary:
        temporary.mkdir()
    monkeypatch.setattr(files.os, "replace", lambda *_: pytest.fail("the old folder was moved away first"))
    with atomic_path(path) as temporary:
        temporary.mkdir()
        (temporary / "weights").touch()
    assert names(path) == ["weights"] and names(tmp_path) == ["model", "one", "other"]


def test_where_names_cannot_be_exchanged_a_folder_is_replaced_all_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "_exchange", lambda *_: False)
    for text in ("old", "new"):
        with atomic_path(tmp_path / "model") as temporary:
            temporary.mkdir()
            (temporary / "weights").write_text(text)
    assert (tmp_path / "model" / "weights").read_text() == "new" and names(tmp_path) == ["model"]


def test_leftovers_go_only_when_their_writer_is_gone(tmp_path):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    living, dead = f"{files._MACHINE}-{os.getppid()}", f"{files._MACHINE}-{ended.pid}"
    for writer in (living, dead, "another-12", "longago-12"):
        (tmp_path / f".a.{writer}.partial").mkdir()
    os.utime(tmp_path / ".a.longago-12.partial", (1, 1))
    (tmp_path / f".other.{dead}.partial").touch()
    remove_leftovers(tmp_path / "a")
    kept = [f".a.{living}.partial", ".a.another-12.partial", f".other.{dead}.partial"]
    assert names(tmp_path) == sorted(kept)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "the disk is full.*Free some space"),
        (OSError(errno.EROFS, "Read-only file system"), "the file system is read-only"),
        (Exception("I/O error: No space left on device (os error 28)"), "the disk is full"),
    ],
)
def test_a_disk_that_cannot_be_written_is_told_with_the_final_name(tmp_path, error, words):
    path = tmp_path / "model"
    with (
        pytest.raises(UserError, match=f"^{path} cannot be written: {words}"),
        atomic_path(path) as temporary,
    ):
        temporary.mkdir()
        with atomic_path(temporary / "inner") as inner:
            inner.write_text("half")
            raise error
    assert names(tmp_path) == []


def test_a_seal_sees_a_changed_bit_and_a_missing_file(tmp_path):
    (tmp_path / "a").write_bytes(bytes(3 << 20))
    (tmp_path / "b").write_bytes(b"b")
    seal(tmp_path)
    check_seal(tmp_path)
    (tmp_path / "a").write_bytes(bytes(2 << 20) + b"\1" + bytes((1 << 20) - 1))
    with pytest.raises(UserError, match=f"{tmp_path / 'a'} is damaged"):
        check_seal(tmp_path)
    (tmp_path / "a").unlink()
    with pytest.raises(UserError, match=f"{tmp_path / 'a'} is missing"):
        check_seal(tmp_path)
    (tmp_path / "a").write_bytes(b"123456789")
    assert crc32(tmp_path / "a") == 0xCBF43926  # the check value of this CRC


def test_files_may_be_read_by_whom_the_umask_allows(tmp_path):
    before = os.umask(files._UMASK)
    try:
        (tmp_path / "ordinary").touch()
        with atomic_path(tmp_path / "model") as temporary:
            temporary.mkdir()
            (temporary / "weights").touch(mode=0o600)  # as safetensors makes its files
    finally:
        os.umask(before)
    assert (tmp_path / "model" / "weights").stat().st_mode == (tmp_path / "ordinary").stat().st_mode
