"""A job seals its measurements, so that later readers get exactly the bytes that were measured.

Beside `records.jsonl` lies `records.jsonl.sha256`, in the format of sha256sum(1), so that anybody can check
it without this project: `sha256sum --check records.jsonl.sha256`.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pipeline_lib.core.errors import UserError
from pipeline_lib.core.files import read_jsonl, read_object, run_again, sha256, write_jsonl, write_text


def seal_path(path: Path) -> Path:
    """Where the seal of a file lies."""
    return path.with_name(f"{path.name}.sha256")


def seal_file(path: Path) -> None:
    """Write the seal of a finished file."""
    write_text(seal_path(path), f"{sha256(path)}  {path.name}\n")


def write_sealed_jsonl(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Write one JSON object a line, and the seal."""
    write_jsonl(path, rows)
    seal_file(path)


def sealed_jsonl(path: Path, needed: bool = True) -> list[dict[str, Any]]:
    """The rows of a sealed file; `UserError` where it has changed since its job wrote it.

    Without `needed` a file without a seal is read as it is, such as one that was copied alone.
    """
    _check(path, needed)
    return read_jsonl(path)


def sealed_object(path: Path, *keys: str) -> dict[str, Any]:
    """The object of a sealed file, which has these keys."""
    _check(path, needed=True)
    return read_object(path, *keys)


def _check(path: Path, needed: bool) -> None:
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    seal = seal_path(path)
    if not seal.is_file():
        if needed:
            raise UserError(f"{path}: has no seal ({seal.name}) of the job that writes it. {run_again(path)}")
        return
    if seal.read_text(encoding="utf-8", errors="replace").split() != [sha256(path), path.name]:
        raise UserError(
            f"{path}: is not what its job wrote ({seal.name} holds another sha256): it was edited, cut or "
            f"replaced. {run_again(path)}"
        )
