"""Data files, plain or packed: the first bytes of a file tell what it is, whatever its name says."""

from __future__ import annotations

import gzip
import lzma
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import IO, Any

from pipeline_lib.core.errors import UserError

PARQUET = b"PAR1"
SUFFIXES = (".gz", ".xz")
_UNPACK: dict[bytes, Callable[[IO[bytes]], Any]] = {b"\x1f\x8b": gzip.open, b"\xfd7zXZ\x00": lzma.open}

# Kinds of files in which there is no text to read, by their first bytes.
_OTHERS = {
    b"\x28\xb5\x2f\xfd": ("packed by zstd", "Unpack it with `unzstd`"),
    b"PK\x03\x04": (
        "a zip archive (.xlsx, .docx and .epub are zip archives too)",
        "Unpack it, or save the sheet as CSV UTF-8 and a text as plain text",
    ),
    b"BZh": ("packed by bzip2", "Unpack it with `bunzip2`"),
    b"7z\xbc\xaf\x27\x1c": ("a 7-Zip archive", "Unpack it"),
    b"\xd0\xcf\x11\xe0": ("a file of an older Excel or Word", "Save it as CSV UTF-8 or as plain text"),
    b"%PDF": ("a PDF", "Save its text as plain text"),
    b"SQLite format 3": ("a database of SQLite", "Export the table as CSV"),
    b"ARROW1": ("an Arrow file", "Save it as Parquet or JSON lines"),
    b"Obj\x01": ("an Avro file", "Save it as Parquet or JSON lines"),
    b"version https://git-lfs": ("a pointer of Git LFS, not the file itself", "Fetch it with `git lfs pull`"),
}


@contextmanager
def unpacked(path: Path, forms: str) -> Iterator[IO[bytes]]:
    """The open file, unpacked if it is a gzip or an xz; `forms` says what may be in it, for messages.

    Raises `UserError` for a file that is missing, of a kind that holds no text, or damaged.
    """
    if path.is_dir():
        raise UserError(f"{path}: expected a file, found a folder. Name a file in it.")
    if not path.is_file():
        raise UserError(f"{path}: no such file. {_alike(path)}")
    with open(path, "rb") as handle:
        start = handle.read(8)
        handle.seek(0)
        opener = next((unpack for mark, unpack in _UNPACK.items() if start.startswith(mark)), None)
        if opener is None and path.suffix.lower() in SUFFIXES:
            raise UserError(
                f"{path}: damaged, or not packed at all: it does not begin as a {path.suffix} does. Copy it "
                "again, or rename it."
            )
        try:
            with nullcontext(handle) if opener is None else opener(handle) as inner:
                check_kind(path, inner, forms)
                yield inner
        except (EOFError, gzip.BadGzipFile, zlib.error, lzma.LZMAError) as error:
            raise UserError(f"{path}: damaged ({error}). Copy or download it again.") from None


def check_kind(path: Path, handle: IO[bytes], forms: str) -> None:
    """Raise `UserError` where the open file is of a known kind that cannot be read."""
    start = handle.read(32)
    handle.seek(0)
    for mark, (what, cure) in _OTHERS.items():
        if start.startswith(mark):
            raise UserError(f"{path}: is {what}; expected {forms}. {cure}.")


def _alike(path: Path) -> str:
    """The names of files beside it with the same stem, as a hint."""
    stem = path.name.partition(".")[0]
    beside = sorted(other.name for other in path.parent.glob("*") if other.name.startswith(f"{stem}."))
    hint = f"Beside it lies {', '.join(beside[:3])}: name that, if it is meant."
    return hint if beside else "Check the path."
