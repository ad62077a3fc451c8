"""What a user or a model wrote stays text in every file that people open: csv, Markdown, LaTeX."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline_lib.reporting.cells import csv_cell
from pipeline_lib.reporting.inputs import Row, RowKey
from pipeline_lib.reporting.tables.layout import Cell, Line, Number, Table, to_csv, to_latex, to_markdown

FORMULAS = ["=1+1", "+1+1", "-1+cmd|' /C calc'!A0", "@SUM(A1)", "\t=1", " =1", "\n=1", "＝1", "--1"]


@pytest.mark.parametrize("text", FORMULAS)
def test_a_formula_is_text(text: str) -> None:
    assert csv_cell(text).startswith("'")


@pytest.mark.parametrize(
    ("value", "cell"),
    [
        (-0.5, "-0.5"),
        (1e-300, "1e-300"),
        (-3, "-3"),
        (True, "true"),
        (None, ""),
        ("-0.5", "-0.5"),
        ("+1e-4", "+1e-4"),
        ("NPO", "NPO"),
        ("", ""),
        ("a\x1b[1m", "a⟨U+001B⟩[1m"),
        ("a = b", "a = b"),
    ],
)
def test_numbers_and_plain_text_stay(value: object, cell: str) -> None:
    assert csv_cell(value) == cell


@given(st.floats(allow_nan=False) | st.integers())
def test_every_number_comes_back(value: float) -> None:
    assert float(csv_cell(value)) == value


def table(text: str) -> Table:
    row = Row(RowKey("task", "model", "NPO", "adamw"), "NPO + AdamW", "FO", "adamw", (0,), True)
    cell = Cell(text, text, (Number(text, text),))
    return Table("task", text, (text,), (Line(row, text, 0, (cell,), text),), (text,), numeric=False)


HOSTILE = (
    "![x](http://evil.example/p.png) [y](javascript:alert(1)) <img src=x onerror=alert(1)> | `code` "
    "www.evil.example $\\href{x}{y}$ \\input{/etc/passwd} % \n\\write18{id} &lt;b&gt; \u202e\x1b[2J =1+1"
)


def test_markdown_has_no_link_image_html_or_formula() -> None:
    text = to_markdown("T", [table(HOSTILE)])
    assert "](" not in text and not re.findall(r"(?<!\\)[`$]", text)
    assert "<" not in text and "://" not in text and "www." not in text and "&lt;img" in text
    assert "&amp;lt;b&amp;gt;" in text, "what was text stays that text"
    assert "\x1b" not in text and "\u202e" not in text
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert len({len(re.findall(r"(?<!\\)\|", line)) for line in lines}) == 1, "no cell makes a column"


def test_a_note_has_its_names_in_bold_and_nothing_live() -> None:
    (hostile,) = to_markdown("T", [replace(table("x"), notes=(HOSTILE,))]).split("\n\n")[-1:]
    assert "**code**" in hostile and "](" not in hostile and not re.findall(r"(?<!\\)[`$]", hostile)
    assert "<" not in hostile and "://" not in hostile and "www." not in hostile
    assert "\n\nBelow **retrained**, a\\*b\n" in to_markdown(
        "T", [replace(table("x"), notes=("Below `retrained`, a*b",))]
    )


def test_latex_runs_nothing() -> None:
    text = to_latex([table(HOSTILE)], caption=HOSTILE)
    live = "\n".join(line for line in text.splitlines() if not line.startswith("%"))
    for command in ("\\input", "\\write", "\\href"):
        assert command not in live
    assert "\\textbackslash{}input\\{" in live
    commented = [line for line in text.splitlines() if "javascript" in line and "textbackslash" not in line]
    assert commented and all(line.startswith("% ") for line in commented), "no line end leaves a comment"
    assert "\x1b" not in text and "\u202e" not in text


def test_csv_of_a_table_computes_nothing() -> None:
    rows = list(csv.DictReader(io.StringIO(to_csv([table("=HYPERLINK(1)"), table("-0.25")]))))
    assert [row["value"] for row in rows] == ["'=HYPERLINK(1)", "-0.25"]
    assert [row["quantity"] for row in rows] == ["'=HYPERLINK(1)", "-0.25"]
