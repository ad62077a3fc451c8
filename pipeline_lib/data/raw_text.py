"""Documents of text files, whatever their form: plain text, JSON lines, Parquet; plain or packed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pipeline_lib.core.errors import UserError
from pipeline_lib.data.packed import SUFFIXES
from pipeline_lib.data.table_files import read_table
from pipeline_lib.data.texts import read_documents, read_text

PLAIN, LINES, TABLES = (".txt", ".md"), (".jsonl", ".json"), (".parquet",)
FORMS = (*PLAIN, *LINES, *TABLES)


def raw_documents(path: Path) -> Iterator[str]:
    """The documents of a file, or of every file of a folder with one of FORMS, in the order of their names.

    A plain text is one document. Of JSON lines and of a table, every row's field `text` is one; a file with
    another name is plain text. Raises `UserError` for a place where there is nothing, and for a file that
    cannot be read.
    """
    if not path.exists():
        raise UserError(f"{path.absolute()}: expected a file or folder of text, found nothing")
    for file in _files(path):
        form = _form(file)
        if form in LINES:
            yield from read_documents(file)
        elif form in TABLES:
            yield from _rows(file)
        else:
            yield read_text(file)


def _form(file: Path) -> str:
    """The ending of a file's name, without that of the program that packed it."""
    suffixes = [suffix.lower() for suffix in file.suffixes]
    return next((suffix for suffix in reversed(suffixes) if suffix not in SUFFIXES), "")


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    inside = [file for file in sorted(path.iterdir()) if _form(file) in FORMS and file.is_file()]
    if found := [file for file in inside if not file.name.startswith(".")]:
        return found
    raise UserError(f"{path}: a folder without text; expected files {', '.join(FORMS)}, maybe packed")


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
