"""What a job's log says: who runs it, how far it is, and how it failed."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from pipeline_lib.core.errors import UserError
from pipeline_lib.core.files import read_object
from pipeline_lib.core.joblog import Start, progress_file, read_start

TAIL = 65536  # bytes read from the end of a log
SHOWN = 12  # lines of an error that are shown
WIDTH = 300  # of a line that is shown
FAILED, TRACEBACK = "error: ", "Traceback (most recent call last)"
SLURM_LOGS = ".snakemake/slurm_logs"  # below the folder that snakemake was started in


@dataclass(frozen=True)
class Log:
    """`changed`: seconds since 1970. `error`: the last lines, where it ends with an error. `last`: its last
    line; `left`: the seconds that are left, where its job has said so."""

    changed: float
    start: Start | None
    error: tuple[str, ...]
    last: str
    left: float | None


def read_log(path: Path) -> Log | None:
    """The log of a job; None where there is none yet."""
    try:
        with open(path, "rb") as handle:
            found = os.fstat(handle.fileno())
            start = read_start(handle.readline(1000).decode(errors="replace"))
            handle.seek(max(found.st_size - TAIL, 0 if start is None else handle.tell()))
            text = handle.read().decode(errors="replace")
    except OSError:  # also one that is being replaced
        return None
    drawn = [line.rstrip().rpartition("\r")[2] for line in text.split("\n")]
    lines = [line[:WIDTH] for line in drawn if line]
    last = lines[-1] if lines else ""
    try:
        progress = read_object(progress_file(path), "line", "seconds_left")
    except (UserError, OSError):
        progress = {"line": "", "seconds_left": None}
    # An error above the newest line of progress was overcome.
    error = () if last == progress["line"][:WIDTH] else error_of(lines)
    return Log(found.st_mtime, start, error, last, progress["seconds_left"])


def error_of(lines: list[str]) -> tuple[str, ...]:
    """The last lines of a log from its last error on: a message, or what raised at the end of a traceback."""
    starts = [i for i, line in enumerate(lines) if line.startswith((FAILED, TRACEBACK))]
    return tuple(lines[starts[-1] :][-SHOWN:]) if starts else ()


def headline(error: tuple[str, ...]) -> str:
    """The one line of an error that says most: the message, or the exception that ended a traceback.

    A message of several lines stands after its exception, so the last line that begins at the margin counts.
    """
    if error[0].startswith(FAILED):
        return error[0]
    flush = [line for line in error if not line.startswith((" ", "\t", "Traceback"))]
    return flush[-1] if flush else error[-1]


def slurm_log(folder: Path, rule: str, name: str) -> Path | None:
    """The newest log that SLURM itself wrote for this job, which tells of time limits and lost nodes.

    `folder`: where snakemake was started. The log lies in rule_<rule>/<values of the wildcards, joined by
    "_">/<SLURM's number of the job>.log; the executor deletes those of jobs that end well.
    """
    values = re.sub(r"/(?:seed|trial)(?=\d+(?:/|$))", "/", name).replace("/", "_")
    place = folder / SLURM_LOGS / f"rule_{rule}" / values
    return max(place.glob("*.log"), key=lambda path: path.stat().st_mtime, default=None)
