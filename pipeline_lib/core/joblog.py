"""The log of a job: who runs it in the first line, no secrets, and no line that is drawn again and again.

Libraries show progress by drawing one line again and again, with carriage returns. In a file this is one
line of many thousand characters. `JobLog` is a stream that shows its newest state from time to time.
What our own loops report comes from `core.meter`. Never imports torch.
"""

from __future__ import annotations

import math
import os
import re
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

from pipeline_lib.core.redaction import LINES, VisibleStream, redacted, visible

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
    slurm = f", SLURM job {job}" if (job := os.environ.get("SLURM_JOB_ID")) else ""
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


class JobLog(VisibleStream):
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
    ) -> None:
        super().__init__(handle)
        self._every, self._clock = every, clock
        self._state = ""  # the newest state of a redrawn line that is not written yet
        self._drawn = False  # the cursor stands behind a redrawn line: the newline that follows belongs to it
        self._last = -math.inf  # when a state was written last
        self.progress = None if log is None else progress_file(log)
        self.forget_progress()

    def forget_progress(self) -> None:
        """Remove the progress file: what it says is no longer so."""
        if self.progress is not None:
            with suppress(OSError):  # there is none, or the disk fails
                self.progress.unlink()

    def write(self, text: str) -> int:
        shown = visible(_ESCAPES.sub("", redacted(text)), keep=LINES + "\r")
        for piece in re.findall(r"\r[^\r\n]*|[^\r\n]+|\n", shown):
            redrawn, its_end = piece.startswith("\r"), self._drawn and piece == "\n"
            if redrawn:
                self._state = piece.strip() or self._state  # where it is blank, the line is cleared
                if self._clock() - self._last >= self._every:
                    self._write_state()
            elif not its_end:
                self._write_state()
                self._handle.write(piece)
            self._drawn = redrawn and bool(piece.strip())
        return len(text)

    def _write_state(self) -> None:
        if self._state:
            self._handle.write(self._state + "\n")
            self._state, self._last = "", self._clock()

    def flush(self) -> None:
        if not self._handle.closed:
            super().flush()

    def close(self) -> None:
        """Write what is not written yet. `handle` stays open."""
        if not self.closed:
            self.forget_progress()
            self._write_state()
        super().close()

    def isatty(self) -> bool:
        return False
