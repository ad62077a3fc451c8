"""The log of a job: who runs it in the first line, no secrets, and no line that is drawn again and again.

Libraries show progress by drawing one line again and again, with carriage returns. In a file this is one
line of many thousand characters. `JobLog` is a stream that shows its newest state from time to time.
What our own loops report comes from `core.meter`. Never imports torch.
"""

from __future__ import annotations

import io
import os
import re
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

from pipeline_lib.core.redaction import LINES, redacted, visible

EVERY = 15.0  # seconds between two lines of progress

_ESCAPES = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")  # by which nested bars move the cursor
_START = re.compile(
    r"^started (?P<time>\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) UTC on (?P<host>\S+), process (?P<process>\d+)"
)


@dataclass(frozen=True)
class Start:
    """Who runs a job, from the first line of its log. `time`: seconds since 1970."""

    time: float
    host: str
    process: int


def start_line() -> str:
    """The first line of a log: when, on which machine, as which process, and of which SLURM job."""
    now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S")
    job = os.environ.get("SLURM_JOB_ID")
    slurm = f", SLURM job {job}" if job else ""
    return f"started {now} UTC on {socket.gethostname()}, process {os.getpid()}{slurm}\n"


def read_start(line: str) -> Start | None:
    """What `start_line` wrote; None for any other line."""
    found = _START.match(line)
    if found is None:
        return None
    moment = datetime.strptime(found["time"], "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC)
    return Start(moment.timestamp(), found["host"], int(found["process"]))


def progress_file(log: Path) -> Path:
    """Where a running job keeps how far it is (see `core.meter`); no file of the workflow."""
    return log.with_name(f".{log.name}.progress")


class JobLog(io.TextIOBase):
    """A text stream into `handle` for stdout and stderr of a job.

    Text passes through as it comes, without secrets and with control characters made visible. Of a line that
    is drawn again and again, the newest state is written when `every` seconds have passed since the last one,
    and before anything else is written. `log`: the path of the log, beside which progress is kept; what an
    earlier process left there is removed.
    """

    def __init__(
        self,
        handle: TextIO,
        log: Path | None = None,
        every: float = EVERY,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._handle, self._every, self._clock = handle, every, clock
        self._state = ""  # the newest state of a redrawn line that is not written yet
        self._shown = ""  # the state written last
        self._drawn = False  # the cursor stands behind a redrawn line: the newline that follows belongs to it
        self._at_start = True  # of a line
        self._last = -float("inf")  # when a state was written last
        self.progress = None if log is None else progress_file(log)
        self.forget_progress()

    def forget_progress(self) -> None:
        """Remove the progress file: what it says is no longer so."""
        if self.progress is not None:
            self.progress.unlink(missing_ok=True)

    def write(self, text: str) -> int:
        shown = visible(_ESCAPES.sub("", redacted(text)), keep=LINES + "\r")
        for piece in re.findall(r"\r?[^\r\n]*\n?|\n", shown):
            line, ended = piece.removesuffix("\n"), piece.endswith("\n")
            if line.startswith("\r"):
                self._draw(line[1:].strip())
            elif line:
                self._plain(line)
            if ended and not self._drawn:
                self._plain("\n")
            self._drawn = self._drawn and not ended
        return len(text)

    def _draw(self, state: str) -> None:
        """A new state of a redrawn line; an empty one clears the line."""
        self._drawn = bool(state)
        if state and state != self._shown:
            self._state = state
            if self._clock() - self._last >= self._every:
                self._show()

    def _show(self) -> None:
        """Write the state that is not written yet, if there is one."""
        if self._state:
            self._handle.write(("" if self._at_start else "\n") + self._state + "\n")
            self._shown, self._state = self._state, ""
            self._at_start, self._last = True, self._clock()

    def _plain(self, text: str) -> None:
        self._show()
        self._handle.write(text)
        self._at_start, self._drawn = text.endswith("\n"), False

    def flush(self) -> None:
        if not self._handle.closed:
            self._handle.flush()

    def close(self) -> None:
        """Write what is not written yet, and end the last line. `handle` stays open."""
        if not self.closed:
            self.forget_progress()
            self._show()
            if not self._at_start:
                self._plain("\n")
        super().close()

    def fileno(self) -> int:
        return self._handle.fileno()

    def isatty(self) -> bool:
        return False

    def writable(self) -> bool:
        return True

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._handle.encoding
