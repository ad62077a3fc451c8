"""Time and memory of unlearning: the price of second order."""

from __future__ import annotations

from pipeline_lib.reporting.inputs import Inputs, Row
from pipeline_lib.reporting.paper.rows import models_of, paired
from pipeline_lib.reporting.summary import Estimate, cost_by_seed, cost_ratio, plain_estimate
from pipeline_lib.reporting.tables.cost import line_of
from pipeline_lib.reporting.tables.layout import Line, Table, estimate_cell, interval_notes

CAPTION = (
    "Minutes of training and peak memory, means over the seeds that finished; for `original` and `retrained` "
    "it is the fine-tuning, for a model after a stage the stage alone; `base` is only "
    "loaded. Second over first order: each second-order row over the first-order row of the same method and "
    "seed (AdamW's, where the method has several). "
    "Peak memory is that of the whole process on a CPU and of tensors on a GPU. Methods that take "
    "no step cost nothing here; what they add to every answer is not counted."
)
COLUMNS = ("Minutes", "Peak memory (GiB)", "Time, second over first order", "Memory, second over first order")
MEASURED = ("train_time_s", "peak_memory_mb")
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
                cells = [estimate_cell(quantity, estimate, 2) for quantity, estimate in found.items()]
                lines.append(line_of(inputs, row, cells, model))
        tables.append(Table(task, "", COLUMNS, tuple(lines), interval_notes(estimates)))
    return tables


def _estimates(inputs: Inputs, row: Row) -> dict[str, Estimate | None]:
    """In the order of `COLUMNS`."""
    base = _first_order(inputs, row)
    seconds, memory = (cost_by_seed(inputs, row, name) for name in MEASURED)
    values = {
        "minutes": [value * MINUTES for value in seconds.values()],
        "peak_memory_gib": [value * GIBIBYTES for value in memory.values()],
        "time_over_first_order": cost_ratio(inputs, row, base, MEASURED[0]).values(),
        "memory_over_first_order": cost_ratio(inputs, row, base, MEASURED[1]).values(),
    }
    return {name: plain_estimate(list(found)) for name, found in values.items()}


def _first_order(inputs: Inputs, row: Row) -> Row | None:
    """The row that a second-order one is held against; None for every other row."""
    if row.order != "SO" or row.key.after:
        return None
    first = [other for other in inputs.rows_of(*row.key[:3]) if other.order == "FO" and not other.key.after]
    return next((other for other in first if other.reference), first[0] if first else None)
