"""A table whose columns are metrics: shared by the main table and the parts of model utility."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from pipeline_lib.core.grouping import grouped
from pipeline_lib.metrics import declared
from pipeline_lib.metrics.definition import UTILITY_SPLIT
from pipeline_lib.reporting import style
from pipeline_lib.reporting.headline import FRONT, FRONT_STEP, INTERPOLATED
from pipeline_lib.reporting.inputs import Inputs, Row
from pipeline_lib.reporting.summary import Estimate, Summary
from pipeline_lib.reporting.tables.layout import Cell, Line, Table, estimate_cell, interval_notes, seeds_text

NBSP = "\u00a0"  # keeps an arrow, or the parts of "n = 40", on one line

Column = tuple[str, str, str]  # split, metric, label
Build = Callable[[Inputs], list[Table]]


def metric_tables(
    columns: Callable[[Summary, str, str], Sequence[Column]],
    notes: Callable[[Summary, Table], Sequence[str]] = lambda *_: (),
    of_models: bool = False,
) -> Build:
    """The `build` of a table that has, for each task and model, what `columns(summary, task, model)` returns.

    `notes`: further sentences below each table. `of_models`: what is measured does not depend on how the
    task's questions are asked, so that a model asked in another way would only repeat its own numbers.
    """

    def build(inputs: Inputs) -> list[Table]:
        summary = Summary(inputs)
        tables = [metric_table(summary, *study, columns(summary, *study)) for study in inputs.studies]
        return [
            replace(
                table,
                lines=tuple(line for line in table.lines if not (of_models and line.row.asked)),
                notes=(*table.notes, *notes(summary, table)),
            )
            for table in tables
        ]

    return build


def line_of(summary: Summary, row: Row, cells: Iterable[Cell], group: str = "") -> Line:
    """One row of a table of metrics, with its seeds."""
    lost = summary.lost(row)
    return Line(row, seeds_text(summary.finished(row), lost), len(lost), tuple(cells), group)


def head(label: str, estimates: Sequence[Estimate | None]) -> str:
    """A column's label with its direction, and n if that is one number."""
    found = [e for e in estimates if e]
    direction = style.arrow(found[0].higher_is_better) if found else ""
    counts = {e.n for e in found}
    n = f"(n{NBSP}={NBSP}{counts.pop()})" if len(counts) == 1 and None not in counts else ""
    return " ".join(part for part in (NBSP.join(filter(None, (label, direction))), n) if part)


def anchor_note(inputs: Inputs, task: str, model: str) -> str:
    """Why a study has no row `retrained`; empty where it has one."""
    if inputs.retrained(task, model):
        return ""
    return (
        "No `retrained`: this model learned the data before the study, so that nothing can be held against a "
        "model that never saw them."
    )


def absent_note(absent: Sequence[tuple[str, str]]) -> str:
    """(label, metric) of what was not measured, with what its declaration asks of the records."""
    if not absent:
        return ""
    by_need = grouped(
        ("; ".join(need.text for need in declared()[metric].needs), label) for label, metric in absent
    )
    parts = [
        ", ".join(labels) + (f" ({'needs' if len(labels) == 1 else 'need'} {needs})" if needs else "")
        for needs, labels in by_need.items()
    ]
    return f"Not measured for this task: {', '.join(parts)}."


def front_notes(summary: Summary, task: str, model: str) -> list[str]:
    """Which rows have runs that come no nearer than `original`, or have no model where they are nearest."""
    if not summary.has(task, model, *FRONT):
        return []
    nowhere, between = [], []
    for row in summary.inputs.rows_of(task, model):
        steps = summary.by_seed(row, *FRONT_STEP)
        if none := sum(step == 0 for step in steps.values()):
            nowhere.append(f"{style.row_label(row)} ({none} of {len(steps)})")
        if drawn := sum(summary.by_seed(row, *INTERPOLATED).values()):
            between.append(f"{style.row_label(row)} ({drawn:.0f} of {len(steps)})")
    start = "Runs that have no model nearer to `retrained` than `original` at the utility of comparison"
    drawn_ones = "Runs whose least gap lies between two judged models, interpolated"
    notes = ((start, nowhere), (drawn_ones, between))
    return [f"{words}: {', '.join(rows)}." for words, rows in notes if rows]


def words_note(summary: Summary, task: str, model: str, shown: Iterable[tuple[str, str]]) -> str:
    """Which words were compared, where true answers of the (split, metric) shown are not plain ASCII."""
    worded = {split for split, metric in shown if declared()[metric].by_words}
    original = summary.inputs.original(task, model)
    parts = [
        f"{style.split_label(split)} {found.value:.0f} of {found.n}"
        for split in summary.splits_with(task, model, "unicode_answers")
        if (found := summary.estimate(original, split, "unicode_answers"))
        and (split in worded or UTILITY_SPLIT in worded)
    ]
    if not parts:
        return ""
    return (
        f"True answers beyond ASCII ({', '.join(parts)}) are compared by Unicode words, or by characters "
        "where a script has no spaces between words; all others by the words of rouge-score (ROUGE). BLEU "
        "takes sacrebleu's tokenizer for the script: 13a, zh, char or intl."
    )


def metric_table(summary: Summary, task: str, model: str, columns: Sequence[Column]) -> Table:
    """`columns`: (split, metric, label). Headers get the direction, and n if it is one number.

    A column that the task does not have is left out and named in a note; without any there are no lines.
    """
    absent = [(label, name) for split, name, label in columns if not summary.has(task, model, split, name)]
    columns = [column for column in columns if summary.has(task, model, *column[:2])]
    rows = summary.inputs.rows_of(task, model) if columns else []
    estimates = [[summary.estimate(row, split, metric) for row in rows] for split, metric, _ in columns]
    heads = [head(label, column) for (_, _, label), column in zip(columns, estimates, strict=True)]
    cells = [
        [estimate_cell(f"{split}.{metric}", estimate, style.decimals(metric)) for estimate in column]
        for (split, metric, _), column in zip(columns, estimates, strict=True)
    ]
    lines = [line_of(summary, row, of_row) for row, *of_row in zip(rows, *cells, strict=True)]
    notes = (
        *interval_notes(e for column in estimates for e in column),
        anchor_note(summary.inputs, task, model) if columns else "",
        words_note(summary, task, model, [column[:2] for column in columns]),
        absent_note(absent),
    )
    return Table(task, model, tuple(heads), tuple(lines), tuple(filter(None, notes)))
