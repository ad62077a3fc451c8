"""Bring the tracker's files up to a study's, once or for as long as it runs."""

from __future__ import annotations

import importlib.util
import sys
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from pipeline_lib.core.errors import UserError
from pipeline_lib.core.files import read_json, write_json
from pipeline_lib.core.locking import hold_lock
from pipeline_lib.operations.tracking.points import changed, curves, final_metrics, settings_of, steps_so_far
from pipeline_lib.operations.tracking.tensorboard import append, new_file
from pipeline_lib.study.suite import Suite
from pipeline_lib.study.table import models_of
from pipeline_lib.study.tracking import Tracking

FOLDER = "tracking"  # below the results folder
STATE = "state.json"  # what the event files hold of each run
NOTHING: dict[str, Any] = {"file": "", "bytes": 0, "steps": 0, "first": None, "marks": [0, 0], "number": 0}


def check_tracker(tracking: Tracking | None) -> None:
    """A `UserError` where the tracker that a suite asks for is not installed."""
    if tracking is not None and importlib.util.find_spec(tracking.kind) is None:
        raise UserError(
            f"tracking.kind is {tracking.kind}, but the package {tracking.kind} is not installed. Install it "
            "(pip install 'unlearning-pipeline[tracking]'), or leave the block `tracking` out of the suite."
        )


def start_tracking(suite: Suite, out: Path) -> Callable[[], None]:
    """Follow a study in the background, where its suite has a block `tracking`; returns what ends that.

    The end looks once more, so that all that the study wrote is there. A tracker that fails says so on stderr
    and the study goes on: `unlearning track` makes up for it.
    """
    tracking = suite.tracking
    if tracking is None:
        return lambda: None
    check_tracker(tracking)
    hold_lock(out / FOLDER / ".lock")
    over = threading.Event()

    def follow() -> None:
        try:
            while not over.wait(tracking.every_seconds):
                track(suite, out)
            track(suite, out)
        except Exception as error:
            print(
                f"tracking: {error}. The study goes on without; afterwards, `unlearning track` "
                "writes what is missing.",
                file=sys.stderr,
            )

    thread = threading.Thread(target=follow, name="tracking", daemon=True)
    thread.start()

    def end() -> None:
        over.set()
        thread.join()

    return end


def track(suite: Suite, out: Path) -> int:
    """Write what is new of each run to the tracker's files; returns the number of runs with something new.

    Only what changed since the last look is read. A run that was made anew begins a new file; what a killed
    process left half written is cut off.
    """
    folder = out / FOLDER
    states: dict[str, dict[str, Any]] = read_json(folder / STATE) if (folder / STATE).is_file() else {}
    news = 0
    for run in _runs(suite):
        marks = list(changed(out, run))
        state = states.get(run, NOTHING)
        if any(marks) and marks != state["marks"]:
            states[run] = _track_run(out, run, state, marks)
            news += states[run] is not state
    if news:
        write_json(folder / STATE, states)
    return news


def _runs(suite: Suite) -> Iterable[str]:
    return [key.folder for key in models_of(suite)]


def _track_run(out: Path, run: str, state: dict[str, Any], marks: list[int]) -> dict[str, Any]:
    """Bring one run's event file up to its files; returns what it holds then."""
    folder = out / FOLDER / run
    found = steps_so_far(out, run)
    if found is None:
        return state
    rows, written = found
    first = repr([rows[0].get("loss"), rows[0].get("elapsed_s")]) if rows else None
    path = folder / state["file"]
    known = state["file"] and path.is_file() and path.stat().st_size >= state["bytes"]
    # The first row of a run that is continued stays as it is, its times included; one made anew has others.
    again = (rows and state["steps"] and (first != state["first"] or len(rows) < state["steps"])) or (
        state["marks"][1] and marks[1] != state["marks"][1]
    )
    if again or not known:
        for old in folder.glob("events.*"):  # also of a look that was killed before it wrote its state
            old.unlink()
        state = {**NOTHING, "number": state["number"] + 1}
        path = new_file(folder, state["number"])
    points = curves(rows, state["steps"], written)
    end = final_metrics(out, run) if marks[1] else None
    settings = settings_of(out, run) if end is not None else None
    size = append(
        path,
        state["bytes"],
        [*points, *([] if end is None else [end])],
        settings,
        None if end is None else end.time,
    )
    return {
        "file": path.name,
        "bytes": size,
        "steps": max(len(rows), state["steps"]),
        "first": first or state["first"],
        "marks": [marks[0], 0 if end is None else marks[1]],
        "number": state["number"],
    }
