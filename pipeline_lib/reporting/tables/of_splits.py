"""A table whose columns are metrics and whose rows come once for each split."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pipeline_lib.reporting import style
from pipeline_lib.reporting.inputs import Inputs
from pipeline_lib.reporting.summary import Summary
from pipeline_lib.reporting.tables.layout import Table, estimate_cell, interval_notes
from pipeline_lib.reporting.tables.of_metrics import Build, absent_note, anchor_note, line_of, words_note

Splits = Callable[[Summary, str, str], dict[str, str]]  # split -> heading of its rows


def split_tables(name: str, splits: Splits) -> Build:
    """The `build` of the table `name`: its metrics for each task and model that has such a split.

    Where none has, it gives one table without lines.
    """

    def build(inputs: Inputs) -> list[Table]:
        summary = Summary(inputs)
        metrics = [metric.name for metric in style.in_table(name)]
        tables = [
            _table(summary, *study, metrics, headings)
            for study in inputs.studies
            if (headings := splits(summary, *study))
        ]
        note = f"Not measured in this study: {', '.join(map(style.metric_label, metrics))}."
        return tables or [Table(*inputs.studies[0], (), (), (note,))]

    return build


def _table(
    summary: Summary, task: str, model: str, metrics: Sequence[str], headings: dict[str, str]
) -> Table:
    shown = [m for m in metrics if any(summary.has(task, model, split, m) for split in headings)]
    rows = summary.inputs.rows_of(task, model)
    found = {
        (split, metric, row.key): summary.estimate(row, split, metric)
        for split in headings
        for metric in shown
        for row in rows
    }
    lines = []
    for split, heading in headings.items():
        counts = {e.n for (name, *_), e in found.items() if name == split and e}
        group = f"{heading} (n = {counts.pop()})" if len(counts) == 1 else heading
        for row in rows:
            cells = (
                estimate_cell(f"{split}.{metric}", found[split, metric, row.key], style.decimals(metric))
                for metric in shown
            )
            lines.append(line_of(summary, row, cells, group))
    heads = []
    for metric in shown:
        name = style.metric_label(metric)
        column = [e for (_, wanted, _), e in found.items() if wanted == metric]
        directions = {e.higher_is_better for e in column if e}
        # Of one direction only where all splits agree: reciting is bad on the forget set alone.
        label = name[0].upper() + name[1:]
        heads.append(f"{label} {style.arrow(directions.pop())}".strip() if len(directions) == 1 else label)
    notes = (
        *interval_notes(found.values()),
        anchor_note(summary.inputs, task, model),
        words_note(summary, task, model, [(split, m) for split in headings for m in shown]),
        absent_note([(style.metric_label(m), m) for m in metrics if m not in shown]),
    )
    return Table(task, model, tuple(heads), tuple(lines), tuple(filter(None, notes)))
