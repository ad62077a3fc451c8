"""Does it stay forgotten? What each stage brings back, beyond what it brings `retrained`."""

from __future__ import annotations

from pipeline_lib.core.runs import RowKey, split_stages
from pipeline_lib.reporting import style
from pipeline_lib.reporting.headline import GAP_SIGNED, JOINT_UTILITY, RECOVERY, RECOVERY_P
from pipeline_lib.reporting.inputs import Inputs, Row
from pipeline_lib.reporting.paired import LEVEL
from pipeline_lib.reporting.summary import Estimate, Summary
from pipeline_lib.reporting.tables.layout import (
    EMPTY,
    Cell,
    Line,
    Number,
    Table,
    estimate_cell,
    interval_notes,
)
from pipeline_lib.reporting.tables.of_metrics import NBSP, anchor_note, line_of

CAPTION = (
    "Recovery: how much better, in log-probability per token, the model after a stage knows the answers of "
    "the forget set than `retrained` does after the same stage. Above 0 something came back that the stage "
    "does not teach a model that never saw the data; below 0 the model still avoids the answers. What rises "
    "to the level of `retrained` has recovered nothing, however far it rose. Beyond: in how many seeds the "
    "recovery is larger than 95 % of further `retrained` seeds would have after the same stage (Student's "
    "prediction for one observation); `retrained` itself is held against its other seeds. Joint utility is "
    "that after the stage: a broken model does not recover. Before: the signed gap without any stage."
)
_MEASURES = (RECOVERY, RECOVERY_P, JOINT_UTILITY)


def build(inputs: Inputs) -> list[Table]:
    """One table for each task and model; without lines where no stage was applied to `retrained` too."""
    summary = Summary(inputs)
    return [_table(summary, task, model) for task, model in inputs.studies]


def stages_of(inputs: Inputs, task: str, model: str) -> dict[str, dict[RowKey, Row]]:
    """By the labels of the stages, the rows they made, by the row without them (`matched` is no stage)."""
    found: dict[str, dict[RowKey, Row]] = {}
    for row in inputs.rows_of(task, model):
        before, labels = split_stages(row.key.after)
        if labels:
            found.setdefault(labels, {})[row.key._replace(after=before)] = row
    return found


def _table(summary: Summary, task: str, model: str) -> Table:
    inputs = summary.inputs
    stages = stages_of(inputs, task, model)
    held = {
        label: rows
        for label, rows in stages.items()
        if any(summary.by_seed(r, *RECOVERY) for r in rows.values())
    }
    notes = [anchor_note(inputs, task, model)]
    if alone := [label for label in stages if label not in held]:
        notes.append(
            f"Not held against `retrained`, which is not among the models of the stage: {', '.join(alone)}."
        )
    estimates: list[Estimate | None] = []
    lines: list[Line] = []
    for row in inputs.rows_of(task, model) if held else ():
        if not any(row.key in rows for rows in held.values()):
            continue
        cells = [_cell("", summary, row, GAP_SIGNED, estimates)]
        for label, rows in held.items():
            cells += _cells(label, summary, rows.get(row.key), estimates)
        lines.append(line_of(summary, row, cells))
    heads = [f"Before{NBSP}(signed gap)"]
    for label in held:
        heads += [f"{label}: recovery{NBSP}↓", f"{label}: beyond", f"{label}: joint utility{NBSP}↑"]
    notes += interval_notes(estimates)
    return Table(task, model, tuple(heads) if lines else (), tuple(lines), tuple(filter(None, notes)))


def _cells(label: str, summary: Summary, row: Row | None, estimates: list[Estimate | None]) -> list[Cell]:
    if row is None:
        return [EMPTY] * len(_MEASURES)
    recovery, utility = (_cell(f"{label}: ", summary, row, m, estimates) for m in (RECOVERY, JOINT_UTILITY))
    return [recovery, _beyond(label, summary, row), utility]


def _cell(
    prefix: str, summary: Summary, row: Row, measure: tuple[str, str], estimates: list[Estimate | None]
) -> Cell:
    split, metric = measure
    estimates.append(found := summary.estimate(row, split, metric))
    return estimate_cell(f"{prefix}{split}.{metric}", found, style.decimals(metric))


def _beyond(label: str, summary: Summary, row: Row) -> Cell:
    found = summary.by_seed(row, *RECOVERY_P)
    if not found:
        return EMPTY
    beyond, seeds = sum(p < LEVEL for p in found.values()), len(found)
    name = f"{label}: {RECOVERY_P.split}.{RECOVERY_P.metric} below {LEVEL}"
    return Cell(f"{beyond} of {seeds}", numbers=(Number(name, beyond, seeds=seeds),))
