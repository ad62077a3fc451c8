"""Step: the ranges of the next round of tuning, from the choices of the last. Needs no model and no torch."""

from __future__ import annotations

from typing import Any

from pipeline_lib.core.files import read_object, write_json
from pipeline_lib.core.ranges import widened
from pipeline_lib.steps.job import Job
from pipeline_lib.steps.selection import OK

ENDS = ("lowest", "highest")


def run(job: Job) -> None:
    """Write `ranges`: those of every row, and whether the round is `skipped` because none became wider.

    Settings: `rows`, row -> its declared `ranges` and `limits`, how often each can be widened downwards and
    upwards. Inputs: `choices`, chosen.json of every row after the last round, in the order of `rows`;
    `before`, what this step wrote for the last round (None before the second). A choice at the end of a
    range widens the ranges of the setting of this name in every row alike, as far as each row's limits go.
    """
    rows = job.settings["rows"]
    before = None if job.optional("before") is None else read_object(job.input("before"), "steps", "ranges")
    steps = {} if before is None else {name: list(of_setting) for name, of_setting in before["steps"].items()}
    for name, end in sorted(_edges([read_object(path) for path in job.several("choices")])):
        steps.setdefault(name, [0, 0])[ENDS.index(end)] += 1
    last = {row: of["ranges"] for row, of in rows.items()} if before is None else before["ranges"]
    ranges = {row: _ranges(of["ranges"], of["limits"], steps) for row, of in rows.items()}
    write_json(job.output("ranges"), {"skipped": ranges == last, "steps": steps, "ranges": ranges})


def _edges(choices: list[dict[str, Any]]) -> set[tuple[str, str]]:
    """Setting, with its part of a run, and end, wherever some row chose the end of what it tried."""
    return {
        (f"{part}.{name}", end)
        for chosen in choices
        if chosen["status"] == OK
        for part, edges in chosen["at_edge"].items()
        for name, end in edges.items()
    }


def _ranges(declared: Any, limits: Any, steps: dict[str, list[int]]) -> dict[str, dict[str, Any]]:
    return {
        part: {
            name: widened(tried, *map(min, steps.get(f"{part}.{name}", (0, 0)), limits[part][name]))
            if name in limits[part]
            else tried
            for name, tried in of_part.items()
        }
        for part, of_part in declared.items()
    }
