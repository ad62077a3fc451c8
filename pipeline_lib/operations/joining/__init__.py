"""Pieces of a study, run apart, put together to the study that they are: numbers, tables, figures, report."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

from pipeline_lib.core.errors import UserError
from pipeline_lib.core.files import atomic_path
from pipeline_lib.core.runs import RowKey
from pipeline_lib.operations.joining.fit import check_fit
from pipeline_lib.operations.joining.piece import MARKER, read_piece
from pipeline_lib.operations.joining.retrained import lines_of_runs
from pipeline_lib.operations.joining.suites import joined_suite
from pipeline_lib.operations.joining.written import WRITTEN, Joined


def join(out: Path, roots: Sequence[Path]) -> list[str]:
    """Write the study of the pieces to the folder `out`, whole or not at all; returns what is to be said.

    A `UserError` names what does not fit. The suite gets the name of the folder.
    """
    _check_places(out, roots)
    pieces = [read_piece(root) for root in roots]
    suite = joined_suite(out.absolute().name, pieces)
    pieces = [piece.within(suite) for piece in pieces]
    check_fit(suite, pieces)
    metrics, lacking = lines_of_runs(suite, pieces)
    with atomic_path(out) as folder:
        joined = Joined(suite, pieces, folder, metrics)
        said = [*joined.write(), *map(_left_out, lacking), *joined.draw()]
    return said


def _left_out(row: RowKey) -> str:
    return (
        f"left out: the distances between the seeds of {row}, which are in several pieces: they need "
        "records.jsonl of all these seeds, and the version of the project that scored them"
    )


def _check_places(out: Path, roots: Sequence[Path]) -> None:
    if len(roots) < 2:
        raise UserError("one piece is a study already; name two or more to join")
    for one, other in combinations([out, *roots], 2):
        if one.resolve() == other.resolve():
            raise UserError(f"{one} and {other} are one folder; name the result and each piece once")
    if not out.exists():
        return
    inside = {path.name for path in out.iterdir()} if out.is_dir() else set[str]()
    if MARKER not in inside:
        raise UserError(
            f"{out} exists and was not written by `join`; name a folder that does not exist, or move it away"
        )
    if foreign := sorted(inside - WRITTEN):
        raise UserError(
            f"{out} was joined earlier and now also holds {', '.join(foreign)}, which would be lost; name "
            "another folder, or move it away"
        )
