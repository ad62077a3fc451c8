"""The state of every job, judged from its result, its log and its checkpoint."""

from __future__ import annotations

import fcntl
import os
import socket
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pipeline_lib.core.errors import UserError
from pipeline_lib.core.files import alive, read_object
from pipeline_lib.operations.status.logs import Log, read_log
from pipeline_lib.study.jobs import Job

DONE, DIVERGED, RUNNING, FAILED, STOPPED, WAITING = STATES = (
    "done",
    "diverged",  # done as well: a result that says so
    "running",
    "failed",  # its log ends with an error
    "stopped",  # its log ends without one: killed, out of memory or out of time
    "waiting",
)
OVER = (DONE, DIVERGED)
FRESH = 120.0  # seconds since the last sign of life of a job whose process cannot be asked


@dataclass(frozen=True)
class Main:
    """The snakemake that works at the study. `since`: when it started, in seconds since 1970."""

    process: str
    since: float


@dataclass(frozen=True)
class State:
    """`log`: what its log says, where that was asked. `finished`: when its result was written."""

    job: Job
    state: str
    log: Log | None = None
    finished: float | None = None


def main_process(out: Path) -> Main | None:
    """Who holds the lock of the results folder; None where nobody does.

    The lock is tried as a reader and let go at once.
    """
    path = out / ".lock"
    # An OSError: no study ran here yet, or a file system without locks.
    with suppress(OSError), open(path, encoding="utf-8") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return Main(handle.read().strip() or "unknown", path.stat().st_mtime)
    return None


def states_of(jobs: Iterable[Job], out: Path, main: Main | None) -> Iterator[State]:
    """The state of each job, in the same order."""
    now = time.time()
    for job in jobs:
        try:
            finished = os.stat(out / job.result).st_mtime
        except OSError:
            yield _unfinished(job, out, main, now)
        else:
            # The result of a run or a trial says how it ended.
            diverged = not {"run", "trial"}.isdisjoint(job.outputs) and _diverged(out / job.result)
            yield State(job, DIVERGED if diverged else DONE, finished=finished)


def _diverged(path: Path) -> bool:
    try:
        return read_object(path).get("status") == DIVERGED
    except (OSError, UserError):  # being replaced, or not what a job writes
        return False


def _unfinished(job: Job, out: Path, main: Main | None, now: float) -> State:
    log = read_log(out / job.log)
    if log is None:
        return State(job, WAITING)
    return State(job, RUNNING if _alive(job, log, out, main, now) else FAILED if log.error else STOPPED, log)


def _alive(job: Job, log: Log, out: Path, main: Main | None, now: float) -> bool:
    """Whether the process that writes this log still runs.

    A process of this machine can be asked. Any other job gives only signs: a log or a checkpoint written in
    the last minutes, or a log that is younger than a main process that is still there.
    """
    if log.start is not None and log.start.host == socket.gethostname():
        return alive(log.start.process)
    if log.error:
        return False
    vouched = main is not None and log.changed >= main.since
    return vouched or quiet_seconds(job, log, out, now) < FRESH


def quiet_seconds(job: Job, log: Log, out: Path, now: float) -> float:
    """How long a job has given no sign of life: nothing in its log, no checkpoint."""
    try:
        return now - max(log.changed, os.stat(out / (job.work or job.log)).st_mtime)
    except OSError:
        return now - log.changed
