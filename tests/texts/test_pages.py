"""Our own pages: every number is right, every cell behind it matters, a number without source is seen."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pipeline_lib.engine.classifiers.validation import VALIDATED
from tests.paths import REPO
from tests.texts.page import TABLE, Mark, Page
from tests.texts.pages import paths
from tests.texts.tables import Cell, Library

LIBRARY = Library()
PATHS = paths()
NAMES = [str(path.relative_to(REPO)) for path in PATHS]


@pytest.fixture(params=PATHS, ids=NAMES)
def page(request: pytest.FixtureRequest) -> Page:
    return Page(request.param, LIBRARY)


def test_every_number_is_computed_and_every_claim_holds(page: Page) -> None:
    faults = page.faults()
    assert not faults, "\n".join(faults) + "\n`python -m tests.texts --write` computes marked numbers anew"


def test_a_change_of_any_cited_cell_is_noticed(page: Page) -> None:
    """For each cell that a page cites some change, however large, makes one of its marks wrong."""
    marks: dict[Cell, list[Mark]] = {}
    for mark in page.marks:
        for cell in page.cited(mark):
            marks.setdefault(cell, []).append(mark)
    unnoticed = [cell for cell, citing in marks.items() if not _noticed(page, cell, citing)]
    assert not unnoticed


def test_a_number_of_one_cell_follows_it_up_and_down(page: Page) -> None:
    for mark in page.marks:
        cells = page.cited(mark)
        if mark.kind == "number" and len(cells) == 1 and re.search("[1-9]", mark.found):
            (cell,) = cells
            row, column = LIBRARY.cell(cell)
            before = row[column]
            for factor in (0.25, 4):
                row[column] = repr(factor * float(before))
                changed = page.is_right(mark)
                row[column] = before
                assert not changed, f"line {mark.line}: {mark.found} for {before} and {factor} of it"


def _noticed(page: Page, cell: Cell, citing: list[Mark]) -> bool:
    row, column = LIBRARY.cell(cell)
    before = row[column]
    try:
        for changed in _others(before):
            row[column] = changed
            if not all(page.is_right(mark) for mark in citing):
                return True
    finally:
        row[column] = before
    return False


def _others(text: str) -> list[str]:
    try:
        value = float(text)
    except ValueError:
        return [text + " or not"]
    return [repr(value + 1e6), repr(value - 1e6), repr(value + 0.2 * abs(value)), repr(0.8 * value)]


def test_a_result_without_a_source_is_seen_wherever_it_stands(page: Page) -> None:
    """One behind every line but headings, output, code, and the tables of files, which are compared whole."""
    put: set[str] = set()
    lines = page.text.splitlines(keepends=True)
    tables = {line for match in TABLE.finditer(page.text) for line in match["table"].splitlines()}
    for index, line in enumerate(lines):
        before = "".join(lines[: index + 1]).rstrip("\n")
        kept = (
            line.startswith(("#", "<!--", "  <!--", "```", "    ", "|--", "| --"))
            or line.rstrip("\n") in tables
        )
        if line.strip() and not kept and not _inside_code(before):
            put.add(f"0.7{index:04}")
            lines[index] = f"{line.rstrip()} It reaches 0.7{index:04} there.\n"
    seen = {number for _, number in Page(page.path, LIBRARY, "".join(lines)).unmarked()}
    assert put and put == seen


def _inside_code(before: str) -> bool:
    comment = before.count("<!--") != before.count("-->")
    fence = len(re.findall(r"^```", before, re.MULTILINE)) % 2 == 1
    return comment or fence or before.rpartition("\n\n")[2].count("`") % 2 == 1


def test_measurements_say_where_they_are_from_and_are_cited() -> None:
    """A csv file in docs/measurements has a line in the page there, and some text cites it."""
    folder = REPO / "docs" / "measurements"
    told = (folder / "README.md").read_text(encoding="utf-8")
    cited = "".join(path.read_text(encoding="utf-8") for path in PATHS)
    for path in sorted(folder.glob("*.csv")):
        assert f"`{path.name}`" in told, f"docs/measurements/README.md says nothing of {path.name}"
        assert path.name in cited, f"no page cites {path.name}"


def test_what_classifiers_can_see_is_what_the_product_knows() -> None:
    """The page's table of AUC against the table that refuses a blind classifier."""
    rows = {row["classifier"]: row for row in LIBRARY.table(REPO / "docs/measurements/classifiers.csv").rows}
    for (classifier, kind), known in VALIDATED.items():
        (cell,) = [text for column, text in rows[classifier].items() if column.split(" (")[0] == kind]
        assert cell.startswith(f"{known.said(3).removeprefix('AUC ')}, n {known.n}")


def test_pages_are_found() -> None:
    assert {"README.md", "results/reference/core/README.md"} <= set(NAMES)
    assert not [path for path in PATHS if not isinstance(path, Path) or not path.is_file()]
