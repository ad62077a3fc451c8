"""How a table of the paper is laid out: models as groups, pairs of first and second order within a method."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pipeline_lib.core.runs import ORDERS
from pipeline_lib.reporting import style
from pipeline_lib.reporting.headline import Measure, judged_by
from pipeline_lib.reporting.inputs import Inputs, Row
from pipeline_lib.reporting.summary import Estimate, Summary
from pipeline_lib.reporting.tables.layout import (
    EMPTY,
    Cell,
    Number,
    Table,
    estimate_cell,
    interval_notes,
)
from pipeline_lib.reporting.tables.of_metrics import Build, anchor_note, head, line_of

NOT_MEASURED = "not measured"
ZERO_SHOT = (  # of the standard benchmarks those whose mean is a model's zero-shot accuracy
    "arc_challenge",
    "arc_easy",
    "boolq",
    "hellaswag",
    "openbookqa",
    "piqa",
    "winogrande",
)


@dataclass(frozen=True)
class Wanted:
    """A column: the mean of `measures` (most often one), by seed; none where nothing could be measured.

    `asked_by`: what a suite must have for it. `optional`: left out, not named as missing, where it is not
    measured.
    """

    label: str
    measures: tuple[Measure, ...]
    asked_by: str = ""
    optional: bool = False

    @property
    def quantity(self) -> str:
        """Its name in the csv."""
        if len(self.measures) < 2:
            return ".".join(self.measures[0]) if self.measures else self.label
        return f"mean of {' and '.join(m.split for m in self.measures)}.{self.measures[0].metric}"


Columns = Callable[[Summary, str, str], Sequence[Wanted]]


def wanted(
    split: str, metric: str, asked_by: str = "", label: str | None = None, optional: bool = False
) -> Wanted:
    """A column of one metric, called as elsewhere unless `label` says otherwise."""
    measure = Measure(split, metric)
    return Wanted(measure.label if label is None else label, (measure,), asked_by, optional)


def general_ability(summary: Summary, task: str, model: str) -> list[Wanted]:
    """The task's own perplexity, that on held-out text, mean zero-shot accuracy and TruthfulQA."""
    utility = judged_by(summary, task, model).utility
    block = "`evaluation.benchmarks` with"
    measured = [name for name in ZERO_SHOT if summary.has(task, model, name, "benchmark_accuracy")]
    several = tuple(Measure(name, "benchmark_accuracy") for name in measured or ZERO_SHOT)
    names = ", ".join(map(style.benchmark_label, measured))
    return [
        *(wanted(m.split, m.metric) for m in utility if "perplexity" in m.metric),
        wanted("wikitext", "word_perplexity", f"{block} wikitext", "WikiText-2 perplexity a word"),
        Wanted(
            f"Zero-shot accuracy ({names})" if names else "Zero-shot accuracy",
            several,
            f"{block} one or more of {', '.join(ZERO_SHOT)}",
        ),
        wanted("truthfulqa_mc1", "benchmark_accuracy", f"{block} truthfulqa_mc1", "TruthfulQA MC1"),
        wanted("truthfulqa_mc2", "truthfulqa_mc2", f"{block} truthfulqa_mc2", "TruthfulQA MC2"),
    ]


def paper_tables(columns: Columns) -> Build:
    """The `build` of a table of the paper: one for each task, its models one below the other."""

    def build(inputs: Inputs) -> list[Table]:
        summary = Summary(inputs)
        return [_table(summary, task, columns) for task in dict.fromkeys(task for task, _ in inputs.studies)]

    return build


def _table(summary: Summary, task: str, columns: Columns) -> Table:
    models = models_of(summary.inputs, task)
    every = list(dict.fromkeys(column for model in models for column in columns(summary, task, model)))
    shown = [c for c in every if not c.optional or any(_measured(summary, task, m, c) for m in models)]
    rows = [row for model in models for row in paired(summary.inputs.rows_of(task, model))]
    found = {
        (row.key, column): summary.mean_estimate(row, column.measures) for row in rows for column in shown
    }
    lines = [
        line_of(summary, row, (_cell(summary, row, c, found[row.key, c]) for c in shown), row.key.model)
        for row in rows
    ]
    heads = tuple(head(c.label, [found[row.key, c] for row in rows]) for c in shown)
    notes = [
        *interval_notes(found.values()),
        *_missing(summary, task, models, shown),
        *dict.fromkeys(anchor_note(summary.inputs, task, model) for model in models),
        "–: a row that has no such number, as `retrained` none against itself."
        if any(cell is EMPTY for line in lines for cell in line.cells)
        else "",
    ]
    return Table(task, "", heads, tuple(lines), tuple(filter(None, notes)))


def models_of(inputs: Inputs, task: str) -> list[str]:
    """The models of a task, in the suite's order."""
    return [model for of, model in inputs.studies if of == task]


def paired(rows: Sequence[Row]) -> list[Row]:
    """Anchors first, then each method's rows, first order before second."""
    methods = list(dict.fromkeys(row.key.method for row in rows))
    return sorted(
        rows, key=lambda row: (not row.anchor, methods.index(row.key.method), ORDERS.index(row.order))
    )


def _measured(summary: Summary, task: str, model: str, column: Wanted) -> bool:
    return any(summary.has(task, model, *measure) for measure in column.measures)


def _cell(summary: Summary, row: Row, column: Wanted, estimate: Estimate | None) -> Cell:
    if not _measured(summary, row.key.task, row.key.model, column):
        return Cell(NOT_MEASURED, numbers=(Number(column.quantity, NOT_MEASURED),))
    return estimate_cell(column.quantity, estimate, style.decimals(column.measures[0].metric))


def _missing(summary: Summary, task: str, models: Sequence[str], shown: Sequence[Wanted]) -> list[str]:
    """What was not measured, with which models, and what to ask for."""
    notes = []
    for column in shown:
        if without := [model for model in models if not _measured(summary, task, model, column)]:
            where = "" if len(without) == len(models) else f" with {', '.join(without)}"
            need = f" It needs {column.asked_by}." if column.asked_by else ""
            notes.append(f"{column.label}: not measured{where}.{need}")
    return notes
