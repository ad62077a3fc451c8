"""Time and memory of unlearning: the price of second order."""

from __future__ import annotations

from pipeline_lib.reporting.inputs import Inputs, Row
from pipeline_lib.reporting.paper.rows import models_of, paired
from pipeline_lib.reporting.summary import Estimate, cost_by_seed, plain_estimate
from pipeline_lib.reporting.tables.cost import seeds_of
from pipeline_lib.reporting.tables.layout import Cell, Line, Table, estimate_cell, interval_note, seeds_text

CAPTION = (
    "Minutes of training and peak memory, means over the seeds that finished; for `original` and `retrained` "
    "it is the fine-tuning. Second over first order: each second-order row over the first-order row of the "
    "same method and seed (AdamW's, where the method has several). Peak memory is that of the whole process "
    "on a CPU and of tensors on a GPU. Methods that take no step cost nothing here; what they add to every "
    "answer is not counted."
)
COLUMNS = ("Minutes", "Peak memory (GiB)", "Time, second over first order", "Memory, second over first order")
MINUTES, GIBIBYTES = 1 / 60, 1 / 1024  # of seconds, of MiB


def build(inputs: Inputs) -> list[Table]:
    """One table for each task, its models one below the other."""
    tables = []
    for task in dict.fromkeys(task for task, _ in inputs.studies):
        lines: list[Line] = []
        estimates: list[Estimate | None] = []
        for model in models_of(inputs, task):
            for row in paired(inputs.rows_of(task, model)):
                found = _estimates(inputs, row)
                estimates += found.values()
                cells: tuple[Cell, ...] = tuple(
                    estimate_cell(quantity, estimate, 2) for quantity, estimate in found.items()
                )
                finished, lost = seeds_of(inputs, row)
                lines.append(Line(row, seeds_text(finished, lost), len(lost), cells, model))
        note = interval_note(estimates)
        tables.append(Table(task, "", COLUMNS, tuple(lines), (note,) if note else ()))
    return tables


def _estimates(inputs: Inputs, row: Row) -> dict[str, Estimate | None]:
    """In the order of `COLUMNS`."""
    seconds, memory = (cost_by_seed(inputs, row, name) for name in ("train_time_s", "peak_memory_mb"))
    base = _first_order(inputs, row)
    return {
        "minutes": plain_estimate([value * MINUTES for value in seconds.values()]),
        "peak_memory_gib": plain_estimate([value * GIBIBYTES for value in memory.values()]),
        "time_over_first_order": _ratio(inputs, row, base, "train_time_s"),
        "memory_over_first_order": _ratio(inputs, row, base, "peak_memory_mb"),
    }


def _first_order(inputs: Inputs, row: Row) -> Row | None:
    """The row that a second-order one is held against; None for every other row."""
    if row.order != "SO":
        return None
    first = [other for other in inputs.rows_of(*row.key[:3]) if other.order == "FO" and not other.key.after]
    return next((other for other in first if other.optimizer_kind == "adamw"), first[0] if first else None)


def _ratio(inputs: Inputs, row: Row, base: Row | None, column: str) -> Estimate | None:
    if base is None:
        return None
    own, other = cost_by_seed(inputs, row, column), cost_by_seed(inputs, base, column)
    return plain_estimate([own[seed] / other[seed] for seed in own if other.get(seed)])
