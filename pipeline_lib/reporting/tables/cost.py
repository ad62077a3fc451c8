"""What each row cost: steps, time, memory, and how many coordinates were clipped."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline_lib.core.runs import LOST
from pipeline_lib.reporting.inputs import Inputs, Row
from pipeline_lib.reporting.summary import cost_estimate, relative_time_estimate
from pipeline_lib.reporting.tables.layout import Cell, Line, Table, estimate_cell, interval_notes, seeds_text

CAPTION = (
    "Cost of training, means over the seeds that finished. For `original` and `retrained` it is the "
    "fine-tuning, for a model after a stage that of the stage alone; for `base` nothing is "
    "trained. The relative time is that of the whole "
    "training, against AdamW with the same method and seed. Peak memory is that of the whole process on a "
    "CPU and of tensors on a GPU. The clipped share is the mean share of coordinates at the limit of the "
    "second-order update: near 1, curvature has no say and the method moves like Signum."
)
COLUMNS = [
    ("steps", "Steps", 0),
    ("train_time_s", "Training time (s)", 1),
    ("time_per_step_s", "Time per step (s)", 4),
    ("peak_memory_mb", "Peak memory (MiB)", 0),
    ("clipped_share", "Clipped share", 3),
]


def build(inputs: Inputs) -> list[Table]:
    """One table for each task and model."""
    heads = [label for _, label, _ in COLUMNS]
    heads.insert(2, "Relative to AdamW (×)")
    tables = []
    for task, model in inputs.studies:
        lines, estimates = [], []
        for row in inputs.rows_of(task, model):
            found = [cost_estimate(inputs, row, name) for name, _, _ in COLUMNS]
            relative = relative_time_estimate(inputs, row)
            estimates += [*found, relative]
            cells = [estimate_cell(name, e, d) for (name, _, d), e in zip(COLUMNS, found, strict=True)]
            cells.insert(2, estimate_cell("relative_time", relative, 2))
            lines.append(line_of(inputs, row, cells))
        tables.append(Table(task, model, tuple(heads), tuple(lines), interval_notes(estimates)))
    return tables


def line_of(inputs: Inputs, row: Row, cells: Sequence[Cell], group: str = "") -> Line:
    """One row of a table of costs, with its seeds."""
    frame = inputs.costs[inputs.costs["run"].map(lambda run: run.row) == row.key]
    ended = frame["status"].isin(LOST)
    finished, lost = frame["seed"][~ended].tolist(), frame["status"][ended].tolist()
    return Line(row, seeds_text(finished, lost), len(lost), tuple(cells), group)
