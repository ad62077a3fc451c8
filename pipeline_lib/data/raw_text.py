"""Documents of text files, whatever their form: plain text, JSON lines, Parquet; plain or packed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pipeline_lib.core.errors import UserError
from pipeline_lib.data.table_files import read_table
from pipeline_lib.data.texts import DOCUMENT_FILES, read_documents, read_text

PLAIN = ("*.txt", "*.txt.gz", "*.txt.xz", "*.md")
TABLES = ("*.parquet",)


def raw_documents(path: Path) -> Iterator[str]:
    """The documents of a file, or of every such file of a folder, in the order of their names.

    A plain text is one document. Of a table, every row's field `text` is one. Raises `UserError` for a place
    where there is nothing, and for a file that cannot be read.
    """
    if not path.exists():
        raise UserError(f"{path.absolute()}: expected a file or folder of text, found nothing")
    for file in _files(path):
        if any(file.match(pattern) for pattern in DOCUMENT_FILES):
            yield from read_documents(file)
        elif any(file.match(pattern) for pattern in TABLES):
            yield from _rows(file)
        else:
            yield read_text(file)


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    patterns = (*PLAIN, *DOCUMENT_FILES, *TABLES)
    inside = {file for pattern in patterns for file in path.glob(pattern) if not file.name.startswith(".")}
    if not inside:
        raise UserError(f"{path}: a folder without text; expected files {', '.join(patterns)}")
    return sorted(inside)


def _rows(file: Path) -> Iterator[str]:
    for row in read_table(file):
        text = row.fields.get("text", "")
        if not isinstance(text, str):
            raise UserError(f"{row.where}: expected a text in the field `text`, found {type(text).__name__}")
        if "text" not in row.fields and row.fields:
            raise UserError(
                f"{row.where}: expected a field `text`, found {', '.join(sorted(row.fields))[:100]}"
            )
        yield text
