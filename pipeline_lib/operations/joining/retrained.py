"""The metrics of `retrained` models in a joined study.

A `retrained` model is held against that of the study's next seed. In a piece this may be another model than
in the joined study, or none, so what compares the two is taken from a piece that has the same pair, computed
anew where records.jsonl of both are there, or left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pipeline_lib.core.runs import LOST, RowKey, RunKey
from pipeline_lib.core.sealing import seal_path
from pipeline_lib.metrics import declared
from pipeline_lib.metrics.scored_files import score_files
from pipeline_lib.operations.joining.fit import metric_lines
from pipeline_lib.operations.joining.piece import Lines, Piece
from pipeline_lib.reporting.cells import csv_cell
from pipeline_lib.reporting.collect import cells_of
from pipeline_lib.reporting.inputs import METRIC_COLUMNS
from pipeline_lib.study import Suite
from pipeline_lib.study.jobs import Job
from pipeline_lib.study.measured import Measured


def lines_of_runs(suite: Suite, pieces: Sequence[Piece]) -> tuple[dict[RunKey, Lines], list[RowKey]]:
    """Of every run its lines of metrics.csv, without its suite's name and what the whole study adds.

    Also the rows of which something is left out: of all seeds, so that every mean is over the same seeds.
    """
    measured = Measured(suite)
    found: dict[RunKey, Lines] = {}
    lacking: dict[RowKey, None] = {}
    for piece in pieces:
        for key in piece.runs:
            if piece.measured.reference(key) == measured.reference(key):
                found.setdefault(key, metric_lines(piece.metrics[key]))
    for piece in pieces:
        for key in (key for key in piece.runs if key not in found):
            own = metric_lines(piece.metrics[key], without_retrained=True)
            anew = None if _lost(own) else _computed(measured.scored(key), key, pieces)
            # Other numbers than the piece's come from other code than that which scored it.
            if anew is not None and _of_the_run(anew) == own:
                found[key] = anew
            else:
                found[key] = own
                lacking |= {} if _lost(own) else {key.row: None}
    kept = {key: _of_the_run(lines) if key.row in lacking else lines for key, lines in found.items()}
    return kept, list(lacking)


def _computed(job: Job, key: RunKey, pieces: Sequence[Piece]) -> Lines | None:
    """The lines of a run as its scoring makes them; None where a file that it reads is in no piece."""
    files = {name: file_of(str(path), pieces) for name, path in job.inputs.items()}
    if None in files.values() or any(_unsealed(path) for path in files.values()):
        return None
    rows = score_files(files).metrics
    run = [*key[:5]]
    what = [key.request, key.after]
    return [
        [csv_cell(cell) for cell in (*run, *cells_of(row, str(files["records"]), number), *what)]
        for number, row in enumerate(rows, start=1)
    ]


def file_of(path: str, pieces: Sequence[Piece]) -> Path | None:
    """A file of the study in the first piece that has it."""
    return next((piece.root / path for piece in pieces if (piece.root / path).is_file()), None)


def _unsealed(path: Path | None) -> bool:
    """Whether a measurement lies there without its seal."""
    sealed = path is not None and path.name in ("records.jsonl", "equal_retain.json")
    return path is not None and sealed and not seal_path(path).is_file()


def _lost(lines: Lines) -> bool:
    return not LOST.keys().isdisjoint(lines[0])


def _of_the_run(lines: Lines) -> Lines:
    """The lines that another `retrained` model would not change."""
    known, column = declared(), METRIC_COLUMNS.index("metric") - 1
    return [cells for cells in lines if cells[column] in LOST or not known[cells[column]].beside_retrained]
