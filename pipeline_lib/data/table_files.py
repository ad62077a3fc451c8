"""Rows of a table that a person names: JSON lines, a JSON array, CSV, TSV or Parquet, plain or packed.

The content tells which of these a file is; only for CSV and TSV, which any text could be, does the name
count.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline_lib.core.errors import UserError
from pipeline_lib.core.json_text import NotJson, decoded, parse_json
from pipeline_lib.data.packed import PARQUET, SUFFIXES, unpacked

FORMS = (
    "one JSON object a line (.jsonl), a JSON array of objects (.json), .csv, .tsv or .parquet, each plain or "
    "packed (.gz, .xz)"
)
_SEPARATORS = {".csv": ",", ".tsv": "\t", ".tab": "\t"}
_LINE_END = re.compile("\r\n|\n|\r")  # others, such as U+2028, may stand within a text
_ROW_NUMBERS = {"", "Unnamed: 0", "__index_level_0__"}  # columns that pandas adds when it writes a table


@dataclass(frozen=True)
class Row:
    """The fields of one row that hold something, and `where` the row is, for messages.

    `cells`: all values are texts, because the file has no types.
    """

    where: str
    fields: dict[str, Any]
    cells: bool = False


def read_table(path: Path) -> list[Row]:
    """The rows of a file; null, NaN and empty cells are left out.

    Raises `UserError` with file and line for what cannot be read; it names the accepted forms.
    """
    with unpacked(path, FORMS) as handle:
        content = handle.read()
    if content.startswith(PARQUET):
        return list(_parquet(path, content))
    text = decoded(content, str(path))
    first = text.lstrip()[:1]
    if not first:
        return []
    if first == "[":
        rows = enumerate(parse_json(text, str(path)), start=1)
        return [_row(fields, f"{path}, row {number}") for number, fields in rows]
    if first == "{":
        return list(_lines(path, text))
    unpacked_suffixes = [suffix.lower() for suffix in path.suffixes if suffix.lower() not in SUFFIXES]
    separator = _SEPARATORS.get(unpacked_suffixes[-1]) if unpacked_suffixes else None
    if separator is None:
        raise UserError(f"{path}: expected {FORMS}; found {text.partition(chr(10))[0][:60]!r}")
    return list(_separated(path, text, separator))


def _given(fields: dict[Any, Any]) -> dict[str, Any]:
    """Without what means "not given": null, and the NaN that tables have in its place."""
    return {
        name: value
        for name, value in fields.items()
        if value is not None and not (isinstance(value, float) and math.isnan(value))
    }


def _lines(path: Path, text: str) -> Iterator[Row]:
    try:
        for number, line in enumerate(_LINE_END.split(text), start=1):
            if line.strip():
                where = f"{path}, line {number}"
                yield _row(parse_json(line, where), where)
    except NotJson as error:
        try:
            parse_json(text, str(path))
        except UserError:
            raise error from None
        raise UserError(f"{path}: holds one JSON object over several lines; expected {FORMS}") from None


def _row(fields: Any, where: str) -> Row:
    if not isinstance(fields, dict):
        raise UserError(f"{where}: expected a JSON object, found {type(fields).__name__}")
    return Row(where, _given(fields))


def _separated(path: Path, text: str, separator: str) -> Iterator[Row]:
    """Rows of CSV (RFC 4180): quoted cells may hold separators, quotes and line ends."""
    head, _, rest = text.lstrip("\r\n").partition("\n")
    if head.lower().startswith("sep=") and len(head.strip()) == 5:  # a line of Excel's, which names it
        text, separator = rest, head.strip()[4]
    elif separator not in head:  # a semicolon where numbers have commas; sometimes tabs or bars
        separator = next((other for other in ";\t|," if other in head), separator)
    before = csv.field_size_limit(2**31 - 1)
    try:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
        first = next((cells for cells in reader if any(cell.strip() for cell in cells)), [])
        names = [name.strip() for name in first]
        if twice := sorted({name for name in names if name and names.count(name) > 1}):
            raise UserError(
                f"{path}, line {reader.line_num}: the column {twice[0]!r} occurs twice; rename one"
            )
        for cells in reader:
            where = f"{path}, line {reader.line_num}"
            if not any(cell.strip() for cell in cells):
                continue
            if len(cells) != len(names):
                raise UserError(
                    f"{where}: has {len(cells)} cells, and the table's head names {len(names)} columns "
                    f"({', '.join(map(repr, names))[:100]}). Put a cell that holds {separator!r}, a "
                    "quote or a line end in quotes, and double a quote within it."
                )
            for name, cell in list(zip(names, cells, strict=True))[1:]:
                if not name and cell.strip():  # only the first column may be row numbers without a name
                    raise UserError(
                        f"{where}: {cell[:40]!r} is in a column without a name; name the column in the "
                        "first line, or leave the cell empty"
                    )
            given = {
                name: cell
                for name, cell in zip(names, cells, strict=True)
                if name not in _ROW_NUMBERS and cell.strip()
            }
            yield Row(where, given, cells=True)
    except csv.Error as error:
        kind = "TSV" if separator == "\t" else "CSV"
        raise UserError(f"{path}, line {reader.line_num}: not {kind} ({error})") from None
    finally:
        csv.field_size_limit(before)


def _parquet(path: Path, content: bytes) -> Iterator[Row]:
    import pyarrow.parquet  # takes long to import

    try:
        rows = pyarrow.parquet.ParquetFile(io.BytesIO(content)).read().to_pylist()
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: damaged Parquet ({' '.join(str(error).split())[:200]})") from None
    for number, row in enumerate(rows, start=1):
        fields = {name: value for name, value in row.items() if name not in _ROW_NUMBERS}
        yield Row(f"{path}, row {number}", _given(fields))
