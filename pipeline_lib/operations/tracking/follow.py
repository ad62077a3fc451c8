"""Bring the tracker's files up to a study's, once or for as long as it runs."""

from __future__ import annotations

import importlib.util
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from pipeline_lib.core.errors import UserError
from pipeline_lib.core.locking import hold_lock
from pipeline_lib.operations.tracking.points import curves, final_metrics, newest, settings_of, steps_so_far
from pipeline_lib.operations.tracking.tensorboard import event_bytes
from pipeline_lib.study.resources import Tracking
from pipeline_lib.study.suite import Suite
from pipeline_lib.study.table import models_of

FOLDER = "tracking"  # below the results folder
PREFIX, SUFFIX = "events.out.tfevents.", ".study"  # of an event file; between them, when its run began


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
    """Write what is new of each run to its event file; returns the number of runs with something new."""
    return sum(_track_run(out, model.folder) for model in models_of(suite))


def _track_run(out: Path, run: str) -> bool:
    """Bring one run's event file up to the run's files; whether there was anything new.

    The same run gives the same bytes, so that what its file lacks is appended. A file that these bytes do not
    begin with is damaged, or of a run that was made anew since: it goes, and a new one is begun. The file's
    time of change is that of the newest file that it was made from: a run with nothing new is not read.
    """
    folder, changed = out / FOLDER / run, newest(out, run)
    path = next(folder.glob(f"{PREFIX}*"), None)
    if path is not None and path.stat().st_mtime_ns == changed:
        return False
    found = steps_so_far(out, run)
    if found is None:
        return False
    rows, written = found
    if path is None:
        taken = rows[-1].get("elapsed_s", 0.0) if rows else 0.0
        path = folder / f"{PREFIX}{written - taken:.3f}{SUFFIX}"
        folder.mkdir(parents=True, exist_ok=True)
    began = float(path.name.removeprefix(PREFIX).removesuffix(SUFFIX))
    end = final_metrics(out, run)
    content = event_bytes(
        folder, began, curves(rows, began), {} if end is None else settings_of(out, run), end
    )
    with open(path, "ab") as handle:
        if not content.startswith(path.read_bytes()):
            path.unlink()
            return _track_run(out, run)
        new = content[handle.tell() :]
        handle.write(new)
        handle.flush()
        os.fsync(handle.fileno())
    os.utime(path, ns=(changed, changed))
    return bool(new)
