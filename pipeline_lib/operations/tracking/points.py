"""What the files of a run tell a tracker: curves over steps, metrics at their end, and settings."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline_lib.core.errors import UserError
from pipeline_lib.core.files import read_jsonl, read_object

Row = dict[str, Any]  # of steps.jsonl


@dataclass(frozen=True)
class Point:
    """Values at a step; `time`: when, in seconds since 1970."""

    step: int
    time: float
    values: dict[str, float]


def newest(out: Path, run: str) -> int:
    """When a file that is read here changed last, in nanoseconds since 1970; 0 where there is none."""
    return max(map(_changed, (_finished(out, run), _checkpoint(out, run), _metrics(out, run))))


def steps_so_far(out: Path, run: str) -> tuple[list[Row], float] | None:
    """Rows of the steps of a run, and when the last one was written, in seconds since 1970.

    While the run goes on, they are those of its checkpoint. None where there is nothing yet, or where a file
    is just being replaced: the next look finds it.
    """
    finished, checkpoint = _finished(out, run), _checkpoint(out, run)
    try:
        if finished.is_file():
            return read_jsonl(finished), finished.stat().st_mtime
        return list(read_object(checkpoint)["log"]), checkpoint.stat().st_mtime
    except (OSError, UserError, KeyError, TypeError):
        return None


def curves(rows: list[Row], began: float) -> list[Point]:
    """The points of all steps of a run that began at this time."""
    return [
        Point(
            row["step"],
            began + row.get("elapsed_s", 0.0),
            {
                f"training/{name}": value
                for name, value in row.items()
                if name != "step" and _is_number(value)
            },
        )
        for row in rows
    ]


def final_metrics(out: Path, run: str) -> Point | None:
    """The metrics of a finished run as one point at its last step; None where it has none.

    Tags are evaluation/<split>/<metric>, so that the same metric of all runs is one chart.
    """
    try:
        rows = read_object(_metrics(out, run))["metrics"]
        values = {
            f"evaluation/{row['split']}/{row['metric']}": row["value"]
            for row in rows
            if _is_number(row["value"])
        }
        return Point(_facts(out, run)["steps"], _metrics(out, run).stat().st_mtime, values)
    except (OSError, UserError, KeyError, TypeError):
        return None


def settings_of(out: Path, run: str) -> dict[str, str | float | bool]:
    """A finished run's settings, flat: optimizer.learning_rate, objective.gamma."""
    facts = _facts(out, run)
    names = ("task", "model", "method", "optimizer", "seed", "status", "git_commit")
    found: dict[str, Any] = {name: facts.get(name) for name in names}
    for part, block in {
        "objective": "objective",
        "optimizer": "optimizer_settings",
        "training": "training",
    }.items():
        found |= {f"{part}.{name}": value for name, value in (facts.get(block) or {}).items()}
    return {
        name: value if isinstance(value, bool | int | float) else str(value)
        for name, value in found.items()
        if value is not None
    }


def _finished(out: Path, run: str) -> Path:
    return out / "training" / run / "steps.jsonl"


def _checkpoint(out: Path, run: str) -> Path:
    return out / "checkpoints" / run / "state.json"


def _metrics(out: Path, run: str) -> Path:
    return out / "evaluations" / run / "metrics.json"


def _facts(out: Path, run: str) -> dict[str, Any]:
    return read_object(out / "training" / run / "run.json")


def _changed(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
