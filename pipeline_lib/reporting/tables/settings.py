"""The exact settings behind every row, as the runs themselves recorded them."""

from __future__ import annotations

from typing import Any

from pipeline_lib.errors import UserError
from pipeline_lib.reporting import style
from pipeline_lib.reporting.inputs import Inputs, Row, RunKey
from pipeline_lib.reporting.tables.layout import Cell, Line, Number, Table

CAPTION = "Settings of every row, as its run.json has them. All seeds of a row have the same."
PARTS = [
    ("objective", "Objective"),
    ("optimizer_settings", "Optimiser"),
    ("training", "Training"),
    ("precision", "Precision"),
]


def build(inputs: Inputs) -> list[Table]:
    """One table for each task and model."""
    tables = []
    for task, model in inputs.studies:
        # A run may keep its precision within `training`.
        parts = [part for part in PARTS if any(run.get(part[0]) for run in inputs.run_files.values())]
        lines = [_line(inputs, row, [name for name, _ in parts]) for row in inputs.rows_of(task, model)]
        tables.append(Table(task, model, tuple(label for _, label in parts), tuple(lines), numeric=False))
    return tables


def _line(inputs: Inputs, row: Row, parts: list[str]) -> Line:
    runs = {}
    for seed in row.seeds:
        run = inputs.run_files.get(RunKey(*row.key, seed))
        if run is None:
            raise UserError(f"the table settings has no run.json of {'/'.join(row.key)}, seed {seed}")
        runs[seed] = run
    cells = []
    for part in parts:
        found = [run.get(part) for run in runs.values()]
        if any(settings != found[0] for settings in found):
            raise UserError(
                f"{'/'.join(row.key)}: its seeds were run with different settings of `{part}`. Delete the "
                "older ones."
            )
        flat = _flat(found[0])
        text = ", ".join(f"{name} {_text(value)}" for name, value in flat.items())
        numbers = tuple(Number(f"{part}.{name}", value, seeds=len(runs)) for name, value in flat.items())
        cells.append(Cell(style.visible(text) or "–", numbers=numbers))
    lost = [seed for seed, run in runs.items() if run.get("status") == "diverged"]
    return Line(row, str(len(runs)), len(lost), tuple(cells))


def _flat(settings: Any, prefix: str = "") -> dict[str, Any]:
    """Nested settings as one level with dotted names."""
    if isinstance(settings, dict):
        return {k: v for name, value in settings.items() for k, v in _flat(value, f"{prefix}{name}.").items()}
    return {} if settings is None and not prefix else {prefix.rstrip("."): settings}


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list):
        return "(" + ", ".join(map(_text, value)) + ")"
    return "none" if value is None else str(value)
