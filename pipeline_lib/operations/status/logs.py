"""What a job's log says: who runs it, how far it is, and how it failed."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from pipeline_lib.core.joblog import Start, in_words, read_start, seconds_left

TAIL = 65536  # bytes read from the end of a log
SHOWN = 12  # lines of an error that are shown
WIDTH = 300  # of a line that is shown
FAILED, TRACEBACK = "error: ", "Traceback (most recent call last)"
SLURM_LOGS = ".snakemake/slurm_logs"  # below the folder that snakemake was started in


@dataclass(frozen=True)
class Log:
    """`changed`: seconds since 1970. `error`: the last lines, where it ends with an error. `last`: its last
    line; `left`: the seconds left by it, where it is one of progress."""

    changed: float
    start: Start | None
    error: tuple[str, ...]
    last: str
    left: float | None


def read_log(path: Path) -> Log | None:
    """The log of a job; None where there is none yet."""
    try:
        changed = path.stat().st_mtime
        with open(path, "rb") as handle:
            first = handle.readline(1000).decode(errors="replace")
            handle.seek(max(os.fstat(handle.fileno()).st_size - TAIL, 0))
            text = handle.read().decode(errors="replace")
    except OSError:  # also one that is being replaced
        return None
    lines = _lines(text)
    last = lines[-1] if lines else ""
    start = read_start(first)
    if start is not None and len(lines) == 1 and last == first.strip():
        last = ""
    left = seconds_left(last)
    return Log(changed, start, () if left is not None else error_of(lines), last, left)


def _lines(text: str) -> list[str]:
    """Lines that hold something; of a bar that redraws its line, its last state."""
    found = []
    for line in text.split("\n"):
        drawn = [piece for piece in line.split("\r") if piece.strip()]
        if drawn:
            words = in_words(drawn[-1].strip())[0] if "\r" in line else drawn[-1].rstrip()
            found.append(words[:WIDTH])
    return found


def error_of(lines: list[str]) -> tuple[str, ...]:
    """The last lines of a log from its last error on: a message, or what raised at the end of a traceback."""
    starts = [i for i, line in enumerate(lines) if line.startswith((FAILED, TRACEBACK))]
    if not starts:
        return ()
    return tuple(lines[starts[-1] :][-SHOWN:])


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
