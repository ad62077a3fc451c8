"""Cells of csv files, which people open in spreadsheets."""

from __future__ import annotations

import csv
import gzip
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pipeline_lib.core.errors import UserError
from pipeline_lib.core.files import atomic_path, run_again
from pipeline_lib.core.redaction import visible

# Characters that begin a formula in a spreadsheet, in full width too.
_FORMULA = tuple("=+-@\t\r＝＋－＠")


def csv_cell(value: Any) -> str:
    """A value as the text of a cell: empty for None, numbers in full, and no text that would be computed.

    A spreadsheet runs every text that begins like a formula, even one that a model wrote; a leading
    apostrophe makes it plain text there. Numbers, negative ones too, stay as they are.
    """
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    text = str(value)
    if not isinstance(value, str) or _is_number(text):
        return text
    text = visible(text)
    return f"'{text}" if text.lstrip(" \n").startswith(_FORMULA) else text


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return text == text.strip()


def write_csv(path: Path | str, columns: Iterable[str], rows: Iterable[Iterable[Any]]) -> None:
    """A csv file as a whole or not at all."""
    with atomic_path(path) as temporary, open(temporary, "w", encoding="utf-8", newline="") as handle:
        writer = csv.writer(handle, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows([csv_cell(value) for value in row] for row in rows)


def csv_text(path: Path) -> str:
    """The text of a csv file, or of one that was packed to be kept (`scores.csv.gz`)."""
    content = path.read_bytes()
    try:
        return (gzip.decompress(content) if path.suffix == ".gz" else content).decode("utf-8")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise UserError(
            f"{path}: cannot be read as text ({error}). Fetch it again from where it was kept. "
            f"{run_again(path)}"
        ) from None
