"""Reading and writing files, so that a file under its final name is always whole."""

from __future__ import annotations

import ctypes
import glob
import hashlib
import json
import os
import shutil
import socket
import time
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from pipeline_lib.core.errors import UserError
from pipeline_lib.core.json_text import WIDE, decoded, parse_json
from pipeline_lib.core.system_errors import storage_fault


@contextmanager
def atomic_path(path: Path | str) -> Iterator[Path]:
    """Yield a temporary path beside `path`; move it to `path` when the block ends well.

    Works for files and folders. What is already at `path` stays until the new content is whole, and is then
    replaced in one step (see `_put`). After a failure the temporary path is removed and `path` is as it was;
    the next process removes what a killed one left behind. A disk that cannot be written is a `UserError`.
    After the block has ended well, the new content also survives a power cut.
    """
    path = Path(path)
    temporary = path.parent / f".{path.name}.{_MACHINE}-{os.getpid()}.partial"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(path)
        _remove(temporary)
        yield temporary
        _flush(temporary)
        _put(temporary, path)
        _flush_folder(path.parent)
    except Exception as error:
        cause = error.__cause__ if isinstance(error, UserError) else error  # of a file inside a folder
        if cause and (fault := storage_fault(cause)):
            what, cure = fault
            raise UserError(
                f"{path} cannot be written: {what} ({cause}). Nothing new is under this name. "
                f"{cure}, then give the same command again: finished work is kept."
            ) from cause
        raise
    finally:
        with suppress(OSError):  # on a disk that fails; the error that counts is the one on its way
            _remove(temporary)


def remove_leftovers(path: Path | str) -> None:
    """Remove what killed processes began to write for `path`; the files of living writers stay.

    Only the process's own machine can tell whether it lives. Files of another machine count as left behind
    when nothing in them was written for an hour.
    """
    path = Path(path)
    for left in path.parent.glob(f".{glob.escape(path.name)}.*.partial"):
        machine, _, process_id = left.name.split(".")[-2].rpartition("-")
        if not alive(process_id) if machine == _MACHINE else _idle_seconds(left) > 3600:
            with suppress(FileNotFoundError):  # another process removes it as well
                _remove(left)


def _machine() -> str:
    """A name of the machine, and on Linux of the container, within which process numbers are unique."""
    try:
        processes = os.readlink("/proc/self/ns/pid")
    except OSError:
        processes = ""
    return hashlib.sha256(f"{socket.gethostname()} {processes}".encode()).hexdigest()[:8]


_MACHINE = _machine()
_UMASK = os.umask(0)  # can be read only by setting it
os.umask(_UMASK)


def alive(process_id: int | str) -> bool:
    """Whether a process with this number runs on this machine."""
    try:
        os.kill(int(process_id), 0)
    except (ProcessLookupError, ValueError):
        return False
    except PermissionError:  # another user's process
        return True
    return True


def _idle_seconds(path: Path) -> float:
    """Time since anything in a file or folder was last written."""
    inside = path.rglob("*") if path.is_dir() else ()
    with suppress(FileNotFoundError):
        return time.time() - max(file.stat().st_mtime for file in (path, *inside))
    return 0.0  # it changes just now


def _put(temporary: Path, path: Path) -> None:
    """Move `temporary` to `path`; an old folder is then at `temporary`, or gone.

    A file replaces a file in one step everywhere. A folder cannot replace one that is not empty, so the two
    change places in one step where the system can do that (Linux, on most file systems). Elsewhere the old
    one is moved aside first; a kill at that moment leaves no folder at `path`, but never half of one.
    """
    if not (temporary.is_dir() and path.exists()):
        os.replace(temporary, path)
    elif not _exchange(temporary, path):
        aside = path.parent / f".{path.name}.old.{_MACHINE}-{os.getpid()}.partial"
        _remove(aside)
        os.replace(path, aside)
        os.replace(temporary, path)
        _remove(aside)


def _exchange(one: Path, other: Path) -> bool:
    """Let two names change places in one step; False where the system or the file system cannot."""
    renameat2 = getattr(ctypes.CDLL(None), "renameat2", None)
    here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE of renameat2(2)
    names = here, os.fsencode(one), here, os.fsencode(other)
    return renameat2 is not None and renameat2(*names, exchange) == 0


def _flush(path: Path) -> None:
    """Bring a file, or all files and names in a folder, to the disk."""
    if path.is_dir():
        for inner in path.iterdir():
            _flush(inner)
        _flush_folder(path)
    else:
        with open(path, "rb") as handle:
            os.fsync(handle.fileno())
        with suppress(OSError):  # safetensors leaves files that only their owner can read
            path.chmod(0o666 & ~_UMASK)


def _flush_folder(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        with suppress(OSError):  # some network file systems cannot, and need not
            os.fsync(handle)
    finally:
        os.close(handle)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def write_text(path: Path | str, text: str) -> None:
    """Write `text` as UTF-8, atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path | str, value: Any) -> None:
    """Write `value` as indented JSON, atomically. Not-a-number values are refused."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_jsonl(path: Path | str, rows: Iterable[dict[str, Any]]) -> None:
    """Write one JSON object a line, atomically."""
    with atomic_path(path) as temporary, open(temporary, "w", encoding="utf-8") as handle:
        for row in rows:
            handle.write(json.dumps(row, ensure_ascii=False) + "\n")


def read_json(path: Path | str, finite: bool = False) -> Any:
    """Read one JSON value; a missing or broken file is a `UserError` that names it (see json_text.py)."""
    try:
        content = Path(path).read_bytes()
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise UserError(f"{path}: expected a file, found a folder") from None
    try:
        return parse_json(content, str(path), finite)
    except UserError as error:
        raise UserError(f"{error}. {made_again(path)}") from None


def read_object(path: Path | str, *keys: str) -> dict[str, Any]:
    """Read a JSON object of finite numbers that has these keys; else a `UserError` names the file."""
    content = read_json(path, finite=True)
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected a JSON object, found {type(content).__name__}. {made_again(path)}")
    missing = [key for key in keys if key not in content]
    if missing:
        raise UserError(f"{path}: has no {', '.join(map(repr, missing))}. {made_again(path)}")
    return content


def read_jsonl(path: Path | str) -> list[dict[str, Any]]:
    """Read one JSON object a line; an error names the file and the line number, counted from 1."""
    if not Path(path).is_file():
        raise UserError(f"{path}: no such file")
    with open(path, "rb") as handle:
        try:
            return list(json_lines(handle, str(path)))
        except UserError as error:
            raise UserError(f"{error}. {made_again(path)}") from None


def json_lines(handle: IO[bytes], name: str) -> Iterator[dict[str, Any]]:
    """The JSON objects, one a line, of an open file, which may be in UTF-16; blank lines are skipped."""
    for number, line in enumerate(text_lines(handle, name), start=1):
        if line.strip():
            where = f"{name}, line {number}"
            row = parse_json(line, where)
            if not isinstance(row, dict):
                raise UserError(f"{where}: expected a JSON object, found {type(row).__name__}")
            yield row


def text_lines(handle: IO[bytes], name: str) -> Iterator[bytes | str]:
    """The lines of an open file: undecoded where they are UTF-8, so that an error can name the line."""
    first = handle.readline()
    if not first.startswith(WIDE):
        yield first
        yield from handle
    else:  # a line end is two or four bytes
        yield from decoded(first + handle.read(), name).split("\n")


def run_again(path: Path | str) -> str:
    """How to have a job write its file again; for files that only a job of a study writes."""
    return f"Have it made again: give the same snakemake command with `--forcerun {path}`."


def made_again(path: Path | str) -> str:
    """How to mend a file that may be a person's own or may come from a job of a study."""
    return f"Repair the file; one that a study wrote is made again by `snakemake --forcerun {path}`."


SEAL = "sums.json"


def seal(folder: Path) -> None:
    """Write the CRC-32 of each file of a folder into the folder, by which `check_seal` detects damage.

    CRC-32 costs a sixth of SHA-256 (6 GB/s against 1 GB/s on one core) and is enough, as damage is not
    malicious.
    """
    files = sorted(file for file in folder.iterdir() if file.is_file())
    write_json(folder / SEAL, {file.name: crc32(file) for file in files})


def check_seal(folder: Path) -> None:
    """`UserError` unless every file is as it was when `seal` was called."""
    for name, expected in read_json(folder / SEAL).items():
        if not (folder / name).is_file():
            raise UserError(f"{folder / name} is missing")
        if crc32(folder / name) != expected:
            raise UserError(
                f"{folder / name} is damaged: its checksum is not the one noted when it was written"
            )


def crc32(path: Path | str) -> int:
    """CRC-32 of a file's bytes."""
    checksum = 0
    with open(path, "rb") as handle:
        while block := handle.read(1 << 20):
            checksum = zlib.crc32(block, checksum)
    return checksum


def sha256(path: Path | str) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
