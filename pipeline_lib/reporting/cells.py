"""Cells of csv files, which people open in spreadsheets."""

from __future__ import annotations

from typing import Any

from pipeline_lib.core.redaction import visible

# What a spreadsheet takes for the beginning of a formula, in full width too.
_FORMULA = tuple("=+-@\t\r＝＋－＠")


def csv_cell(value: Any) -> str:
    """A value as the text of a cell: nothing for None, numbers in full, and no text that would be computed.

    A spreadsheet runs a text that begins like a formula, also one that a model wrote; an apostrophe before it
    makes it text there. Numbers, negative ones too, stay as they are.
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
