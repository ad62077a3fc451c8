"""One Markdown page: its marks, what is wrong with it, and the page with every marked number computed anew.

fell from 0.97<!--=retain[row=original]--> to ...          a number and where it is from
nearer than any other row<!--holds x < min(others)-->      a sentence and what makes it true
<!--table speed[part=paper]-->                             the table below is these rows of a file
<!--settings 0.1 5e-6: defaults-->                         these numbers of the block below are no results
<!--numbers                                                names, once a page, usually at its end
main = tables/main.csv
retain = main[task=book, quantity=retain.probability]
-->
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.texts.expressions import Scope
from tests.texts.prose import MARKED, OUTPUT, blank, results, without_code, written_like
from tests.texts.tables import Cell, Library, TextError

NUMBERS = re.compile(r"<!--numbers\n(?P<lines>.*?)-->\n?", re.DOTALL)
DEFINITION = re.compile(r"(?P<name>[A-Za-z_]\w*) *= *(?P<right>.*)")
HOLDS = re.compile(r"<!--holds\s(?P<expression>.*?)-->", re.DOTALL)
TABLE = re.compile(r"^<!--table (?P<expression>[^\n]*?)-->\n(?P<table>(?:\|[^\n]*\n)+)", re.MULTILINE)
SETTINGS = re.compile(
    r"^(?P<mark> *<!--settings (?P<numbers>[^:\n]*): [^\n]*?-->\n)(?P<block>(?:^.*\S.*\n)+)", re.MULTILINE
)
HEADING = re.compile(r"^##+ (.*)", re.MULTILINE)
RESULTS = re.compile(
    r"\b(?:speed|cost|measured|validated|how it is tested|proven|large studies)\b", re.IGNORECASE
)
COMMENT = re.compile(r"<!--(?P<inner>.*?)-->", re.DOTALL)


@dataclass(frozen=True)
class Mark:
    """A place of a page that is computed: `right` is what should stand there."""

    line: int
    start: int
    end: int
    found: str
    expression: str
    kind: str  # "number", "holds", "table"


class Page:
    def __init__(self, path: Path, library: Library, text: str | None = None) -> None:
        self.path = path
        self.library = library
        self.text = path.read_text(encoding="utf-8") if text is None else text
        self.broken: list[str] = []
        self.scope = Scope(library, path.parent, self._definitions())
        self.marks = list(self._marks())

    def line(self, place: int) -> int:
        return self.text.count("\n", 0, place) + 1

    def _definitions(self) -> dict[str, str]:
        found: dict[str, str] = {}
        for block in NUMBERS.finditer(self.text):
            for line in block["lines"].splitlines():
                match = DEFINITION.fullmatch(line.strip())
                if match is None:
                    self.broken.append(f"{line.strip()!r} is no definition: name = expression")
                elif match["name"] in found:
                    self.broken.append(f"{match['name']!r} is defined twice")
                else:
                    found[match["name"]] = match["right"].strip()
        return found

    def _marks(self) -> Iterator[Mark]:
        for pattern, kind, place in (
            (MARKED, "number", "number"),
            (HOLDS, "holds", 0),
            (TABLE, "table", "table"),
        ):
            for match in pattern.finditer(self.text):
                start, end = match.span(place)
                found = self.text[start:end]
                yield Mark(self.line(start), start, end, found, match["expression"].strip(), kind)

    # --- one mark -----------------------------------------------------------------------------------

    def right(self, mark: Mark) -> str:
        """What should stand at a mark; TextError where its expression has no value or does not hold."""
        self.library.cited.clear()
        self.library.read.clear()
        if mark.kind == "number":
            right = written_like(mark.found, self.scope.number(mark.expression))
        elif mark.kind == "holds":
            right = mark.found
            if not self.scope.truth(mark.expression):
                raise TextError(f"{mark.expression} does not hold any more: the sentence is wrong")
        else:
            right = self._table(mark)
        if not self.library.read:
            raise TextError(f"{mark.expression} is computed from no file")
        return right

    def _table(self, mark: Mark) -> str:
        rows = self.scope.rows(mark.expression)
        head, rule, *_ = mark.found.splitlines()
        columns = [cell.strip() for cell in head.strip().strip("|").split("|")]
        if unknown := set(columns) - set(rows.table.columns):
            raise TextError(f"{rows.table.path.name} has no columns {sorted(unknown)}")
        for index in rows.indices:
            self.library.cited |= {(str(rows.table.path), index, column) for column in columns}
        lines = [
            "".join(f"| {rows.table.rows[i][column]} " for column in columns) + "|" for i in rows.indices
        ]
        return (
            "\n".join([head, rule, *(line.replace("|  |", "| |").replace("|  |", "| |") for line in lines)])
            + "\n"
        )

    def is_right(self, mark: Mark) -> bool:
        try:
            return self.right(mark) == mark.found
        except TextError:
            return False

    def cited(self, mark: Mark) -> set[Cell]:
        """The cells that a mark looks at."""
        self.right(mark)
        return set(self.library.cited)

    # --- the page -----------------------------------------------------------------------------------

    def faults(self) -> list[str]:
        """Everything that is wrong, as `path:line: what`."""
        found = [(1, text) for text in self.broken]
        for mark in self.marks:
            try:
                right = self.right(mark)
            except TextError as error:
                found.append((mark.line, str(error)))
                continue
            if right != mark.found and mark.kind == "table":
                found.append((mark.line, f"the table is not that of {mark.expression}"))
            elif right != mark.found:
                found.append((mark.line, f"{mark.found} stands where {mark.expression} is {right}"))
        found += [(line, f"{text!r} has no source") for line, text in self.unmarked()]
        found += [(line, f"{text} marks nothing that can be checked") for line, text in self.strays()]
        return [f"{self.path}:{line}: {text}" for line, text in sorted(found)]

    def unmarked(self) -> list[tuple[int, str]]:
        """Line and text of each result without a source."""
        return [
            (self.line(match.start()), match[0])
            for match in self._results()
            if not any(_within(match, block) and match[0] in listed for block, listed in self._settings())
        ]

    def _results(self) -> list[re.Match[str]]:
        """The numbers of the page that are no code, no mark and no table of a file."""
        text = self.text
        for pattern in (NUMBERS, MARKED, TABLE):
            for match in pattern.finditer(text):
                text = blank(text, *match.span())
        if self.path.name != "README.md":
            for match in OUTPUT.finditer(text):
                text = blank(text, *match.span())
        for match in COMMENT.finditer(text):
            text = blank(text, *match.span())
        return list(results(without_code(text)))

    def strays(self) -> list[tuple[int, str]]:
        """Comments that look like marks and are none, and marks that stand behind no number."""
        found: list[tuple[int, str]] = []
        text = self.text
        for pattern in (NUMBERS, MARKED, HOLDS, TABLE):
            for match in pattern.finditer(text):
                text = blank(text, *match.span())
        for block, listed in self._settings():
            text = blank(text, *block.span("mark"))
            listed -= {match[0] for match in self._results() if _within(match, block)}
            found += [(self.line(block.start()), f"{number!r}, listed as a setting,") for number in listed]
        found += [(self.line(match.start()), match[0].split("\n")[0]) for match in COMMENT.finditer(text)]
        # Markdown takes a line that begins with a comment out of its paragraph
        begun = [mark for mark in self.marks if mark.kind == "holds" and self._begins_a_line(mark)]
        return found + [(mark.line, "a mark at the beginning of a line") for mark in begun]

    def _settings(self) -> list[tuple[re.Match[str], set[str]]]:
        """Blocks with the numbers in them that are settings, where there may be such: not in a README, not in
        sections of results. The numbers are listed, so that no result hides among them."""
        if self.path.name == "README.md":
            return []
        blocks = [
            match for match in SETTINGS.finditer(self.text) if not _of_results(self.text[: match.start()])
        ]
        return [(match, set(match["numbers"].split())) for match in blocks]

    def _begins_a_line(self, mark: Mark) -> bool:
        return not self.text[: mark.start].rpartition("\n")[2].strip()

    def rewritten(self) -> str:
        """The page with numbers and tables computed anew; claims that fail are for a person to reword."""
        text = self.text
        for mark in sorted(self.marks, key=lambda mark: -mark.start):
            try:
                text = text[: mark.start] + self.right(mark) + text[mark.end :]
            except TextError:
                continue
        return text


def _of_results(before: str) -> bool:
    headings = HEADING.findall(before)
    return bool(headings) and RESULTS.search(headings[-1]) is not None


def _within(match: re.Match[str], block: re.Match[str]) -> bool:
    return block.start() <= match.start() < block.end()
