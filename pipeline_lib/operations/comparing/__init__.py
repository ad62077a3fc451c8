"""Two studies side by side: the rows that both have, and the difference B - A of their headline numbers."""

from __future__ import annotations

from pathlib import Path

from pipeline_lib.core.errors import UserError
from pipeline_lib.operations.comparing.differences import differences
from pipeline_lib.operations.comparing.notes import notes
from pipeline_lib.operations.comparing.side import Side, named, read_side, rows_of
from pipeline_lib.operations.comparing.text import COLUMNS, cells_of, table_of
from pipeline_lib.reporting.cells import write_csv


def compare(first: Path, second: Path, out: Path | None = None) -> str:
    """The comparison as text; `out`: also as a csv file, with every digit.

    Raises a `UserError` where one of the two is no finished study, or where they have no row in common.
    """
    a, b = read_side("A", first), read_side("B", second)
    if a.root.resolve() == b.root.resolve():
        raise UserError(f"{first} and {second} are one folder ({a.root}); name two studies")
    if out is not None:
        _check_place(out, a, b)
    rows, only_a = rows_of(a, b)
    _, only_b = rows_of(b, a)
    if not rows:
        raise UserError(
            "the two studies have no row in common: a row is a task, model, method, optimizer and what was "
            "done afterwards, by their labels in the suites.\n"
            + "\n".join(
                f"  {side.name} ({side.root}) has {line}" for side in (a, b) for line in named(side.measured)
            )
            + "\nGive what is the same the same labels in both suites and run one of them again under a name "
            "of its own, or compare studies of one task."
        )
    found = [difference for row in rows for difference in differences(a, b, row)]
    if out is not None:
        write_csv(out, COLUMNS, map(cells_of, found))
    parts = [
        "\n".join(f"{side.name}: {side.root}" for side in (a, b)),
        *table_of(found),
        "\n".join(["Read with care:", *(f"- {line}" for line in notes(a, b, rows, found))]),
        *(
            "\n".join([f"Only in {side.name}:", *(f"- {line}" for line in named(alone))])
            for side, alone in ((a, only_a), (b, only_b))
            if alone
        ),
        *([f"Every digit: {out}"] if out is not None else []),
    ]
    return "\n\n".join(parts)


def _check_place(out: Path, a: Side, b: Side) -> None:
    """Nothing of a study is overwritten."""
    if inside := [side.root for side in (a, b) if out.resolve().is_relative_to(side.root.resolve())]:
        raise UserError(
            f"--out {out} lies in {inside[0]}, where a study keeps its own files; name a file elsewhere, "
            "such as comparison.csv"
        )
    if out.is_dir():
        raise UserError(f"--out {out} is a folder; name a file, such as {out / 'comparison.csv'}")
