"""What the files of a run tell a tracker: curves over steps, metrics at their end, and settings."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline_lib.core.errors import UserError
from pipeline_lib.core.files import read_jsonl, read_object

Row = dict[str, Any]  # of steps.jsonl
NOT_CURVES = ("step",)


@dataclass(frozen=True)
class Point:
    """Values at a step; `time`: when, in seconds since 1970."""

    step: int
    time: float
    values: dict[str, float]


def steps_so_far(out: Path, run: str) -> tuple[list[Row], float] | None:
    """The rows of a run's steps and when the last was written: of its checkpoint while it runs.

    None where there is nothing yet, or where a file is just being replaced: the next look finds it.
    """
    finished = out / "training" / run / "steps.jsonl"
    try:
        if finished.is_file():
            return read_jsonl(finished), finished.stat().st_mtime
        state = out / "checkpoints" / run / "state.json"
        return list(read_object(state)["log"]), state.stat().st_mtime
    except (OSError, UserError, ValueError, KeyError, TypeError):
        return None


def changed(out: Path, run: str) -> tuple[int, int]:
    """Marks of what a tracker reads of a run, which change when it does: of its steps, and of its metrics."""
    finished = _mark(out / "training" / run / "steps.jsonl")
    steps = finished or _mark(out / "checkpoints" / run / "state.json")
    return steps, _mark(out / "evaluations" / run / "metrics.json")


def _mark(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


def curves(rows: list[Row], first: int, written: float) -> list[Point]:
    """The points of rows[first:]. `written`: when the last row was; the others came before."""
    if not rows:
        return []
    end = rows[-1].get("elapsed_s", 0.0)
    return [
        Point(
            row["step"],
            written - (end - row.get("elapsed_s", end)),
            {f"training/{name}": value for name, value in _numbers(row).items() if name not in NOT_CURVES},
        )
        for row in rows[first:]
    ]


def final_metrics(out: Path, run: str) -> Point | None:
    """The metrics of a finished run as one point at its last step; None where it has none.

    Tags are evaluation/<split>/<metric>, so that the same metric of all runs is one chart.
    """
    try:
        content = read_object(out / "evaluations" / run / "metrics.json")
        facts = read_object(out / "training" / run / "run.json")
        values = {
            f"evaluation/{row['split']}/{row['metric']}": float(row["value"])
            for row in content["metrics"]
            if _is_number(row["value"])
        }
        return Point(facts["steps"], (out / "evaluations" / run / "metrics.json").stat().st_mtime, values)
    except (OSError, UserError, ValueError, KeyError, TypeError):
        return None


def settings_of(out: Path, run: str) -> dict[str, str | float | bool] | None:
    """A finished run's settings, flat: optimizer.learning_rate, objective.gamma; None before its end."""
    try:
        facts = read_object(out / "training" / run / "run.json")
    except (OSError, UserError):
        return None
    names = ("task", "model", "method", "optimizer", "seed", "status", "git_commit")
    found: dict[str, Any] = {name: facts.get(name) for name in names}
    for part, block in (
        ("objective", "objective"),
        ("optimizer", "optimizer_settings"),
        ("training", "training"),
    ):
        found |= {f"{part}.{name}": value for name, value in (facts.get(block) or {}).items()}
    return {
        name: value if isinstance(value, bool | int | float) else str(value)
        for name, value in found.items()
        if value is not None
    }


def _numbers(row: Row) -> dict[str, float]:
    return {name: float(value) for name, value in row.items() if _is_number(value)}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
