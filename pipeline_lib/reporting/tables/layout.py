"""What a table is, and its three written forms."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass, field

from pipeline_lib.core.redaction import visible
from pipeline_lib.core.runs import lost_words
from pipeline_lib.reporting import style
from pipeline_lib.reporting.cells import csv_cell
from pipeline_lib.reporting.inputs import Row
from pipeline_lib.reporting.summary import Estimate

_CSV_COLUMNS = [
    "task",
    "model",
    "method",
    "optimizer",
    "row",
    "quantity",
    "value",
    "low",
    "high",
    "seeds",
    "seeds_diverged",
    "n",
    "interval",
]
LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "\u00a0": "~",
    "−": r"$-$",
    "×": r"$\times$",
    "⟨": r"$\langle$",
    "⟩": r"$\rangle$",
    "–": "--",
    "—": "---",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
}


@dataclass(frozen=True)
class Number:
    """One line of the csv. `value` is a number, or a text in the table of settings."""

    quantity: str
    value: float | str
    low: float | None = None
    high: float | None = None
    seeds: int | None = None
    n: int | None = None
    interval: str = ""


@dataclass(frozen=True)
class Cell:
    """`text` and, smaller, `small` (an interval) for people; `numbers` for the csv."""

    text: str
    small: str = ""
    numbers: tuple[Number, ...] = ()


@dataclass(frozen=True)
class Line:
    """One row of a table. `seeds` says how many seeds and what the intervals are.

    Neighbouring lines of one `group` stand below a heading of that text.
    """

    row: Row
    seeds: str
    diverged: int
    cells: tuple[Cell, ...]
    group: str = ""


@dataclass(frozen=True)
class Table:
    """One table of one task and model. `notes` are sentences below it. `numeric`: columns hold numbers.

    `model` is empty where the lines are of several models. A table without lines has its notes only.
    """

    task: str
    model: str
    columns: tuple[str, ...]
    lines: tuple[Line, ...]
    notes: tuple[str, ...] = field(default=())
    numeric: bool = True

    @property
    def heading(self) -> str:
        return style.study_label(self.task, self.model) if self.model else self.task


EMPTY = Cell("–")


def estimate_cell(quantity: str, estimate: Estimate | None, decimals: int = 3) -> Cell:
    """A number with its interval, or with a dash and why it has none; no number: a dash."""
    if estimate is None:
        return EMPTY
    e = estimate
    numbers = (Number(quantity, e.value, e.low, e.high, e.seeds, e.n, e.interval),)
    counted = decimals == 0 and e.n is None  # steps, megabytes: nothing was estimated
    none = "" if counted or not e.why else f"– ({e.why})"
    return Cell(style.number(e.value, decimals), style.interval(e.low, e.high, decimals) or none, numbers)


def seeds_text(finished: Sequence[int], lost: Sequence[str]) -> str:
    """`3`, `2, diverged (1 of 3 seeds)` or `diverged (3 of 3 seeds)`; `lost`: statuses of the others."""
    why = f"{lost_words(lost)} ({len(lost)} of {len(finished) + len(lost)} seeds)"
    if not finished:
        return why
    return f"{len(finished)}, {why}" if lost else str(len(finished))


INTERVALS = {  # the kinds of intervals in words
    "t": "for two seeds or more the mean and the t-interval over seeds, made on a scale that keeps it "
    "inside the metric's range",
    "bootstrap": "for a single seed its bootstrap interval over groups of questions, which says nothing "
    "about other seeds",
    "none": "–: none, because nothing varied or was repeated",
}


def interval_notes(estimates: Iterable[Estimate | None]) -> tuple[str, ...]:
    """Which intervals a table holds, in a sentence; none without an estimate."""
    kinds = {e.interval for e in estimates if e}
    parts = [words for kind, words in INTERVALS.items() if kind in kinds]
    return (f"95 % intervals: {'; '.join(parts)}.",) if parts else ()


def to_csv(tables: Sequence[Table]) -> str:
    """One line a number, full precision."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_CSV_COLUMNS)
    for table in tables:
        for line in table.lines:
            key = [*line.row.key[:4], style.row_label(line.row)]  # the label says what was done afterwards
            for entry in (entry for cell in line.cells for entry in cell.numbers):
                *values, n, interval = astuple(entry)
                writer.writerow([csv_cell(value) for value in (*key, *values, line.diverged, n, interval)])
            if not any(
                cell.numbers for cell in line.cells
            ):  # every seed diverged: the row stays in the table
                row = [*key, "", "", "", "", 0, line.diverged, "", "none"]
                writer.writerow([csv_cell(value) for value in row])
    return text.getvalue()


def to_markdown(title: str, tables: Sequence[Table], caption: str = "") -> str:
    """A heading, the caption where one is given, then one table for each task and model."""
    parts = [f"# {title}", *([caption] if caption else [])]
    for table in tables:
        heads = ["", *table.columns, "Seeds"]
        align = " ---: |" if table.numeric else " --- |"
        rows = [
            "| " + " | ".join(map(_markdown, heads)) + " |",
            "| --- |" + align * len(table.columns) + " --- |",
        ]
        group = ""
        for line in table.lines:
            if line.group != group:
                group = line.group
                rows.append(f"| **{_markdown(group)}** |" + " |" * (len(heads) - 1))
            numbers = (f"{cell.text} {cell.small}".strip() for cell in line.cells)
            cells = [style.row_label(line.row), *numbers, line.seeds]
            rows.append("| " + " | ".join(map(_markdown, cells)) + " |")
        body = ["\n".join(rows)] if table.lines else []
        parts += [f"## {_markdown(table.heading)}", *body, *map(_markdown_note, table.notes)]
    return "\n\n".join(parts) + "\n"


def to_latex(tables: Sequence[Table], caption: str = "") -> str:
    """One booktabs tabular for each task and model; intervals stand below their numbers."""
    parts = [
        "% needs \\usepackage{booktabs}; in a narrow column set it smaller or on its side",
        *([_comment(caption)] if caption else []),
    ]
    for table in tables:
        columns = "r" * len(table.columns) if table.numeric else "p{0.3\\linewidth}" * len(table.columns)
        rows = [
            f"\\begin{{tabular}}{{l{columns}l}}",
            "\\toprule",
            " & ".join(map(_latex, ["", *table.columns, "Seeds"])) + r" \\",
            "\\midrule",
        ]
        method, group = None, ""
        for line in table.lines:
            if line.group != group:
                group, method = line.group, None
                rows += [
                    "\\addlinespace",
                    f"\\multicolumn{{{len(table.columns) + 2}}}{{l}}{{\\emph{{{_latex(group)}}}}} \\\\",
                ]
            if method is not None and not line.row.anchor and line.row.key.method != method:
                rows.append("\\addlinespace")
            method = line.row.key.method
            cells = [_latex(style.row_label(line.row)), *map(_latex_cell, line.cells), _latex(line.seeds)]
            rows.append(" & ".join(cells) + r" \\")
        rows += ["\\bottomrule", "\\end{tabular}"]
        notes = [_comment(note) for note in table.notes]
        parts.append("\n".join([_comment(table.heading), *(rows if table.lines else []), *notes]))
    return "\n\n".join(parts) + "\n"


def _markdown(text: str) -> str:
    """Escaped, so that it is plain text: no border, code, formula, HTML, link, or image to fetch."""
    text = re.sub(r"&(?=#?\w+;)", "&amp;", text)  # what was no character reference must not become one
    for char in "\\|*`$":  # the backslash first
        text = text.replace(char, "\\" + char)
    text = text.replace("](", "]\\(").replace("://", ":\\//").replace("www.", "www\\.")
    return visible(text.replace("<", "&lt;").replace("\n", " "), keep="")


def _markdown_note(text: str) -> str:
    """A note with its `names` in bold, as on the page; everything is escaped."""
    parts = enumerate(text.split("`"))
    return "".join(f"**{_markdown(part)}**" if i % 2 and part else _markdown(part) for i, part in parts)


def _latex(text: str) -> str:
    return "".join(LATEX.get(char, char) for char in visible(text.replace("\n", " "), keep=""))


def _comment(text: str) -> str:
    """A LaTeX comment on one line: a line break in the text would end the comment."""
    return f"% {visible(' '.join(text.split()), keep='')}"


def _latex_cell(cell: Cell) -> str:
    if not cell.small:
        return _latex(cell.text)
    return rf"\shortstack{{{_latex(cell.text)}\\{{\scriptsize {_latex(cell.small)}}}}}"
