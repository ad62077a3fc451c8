"""The log of a job: who runs it in the first line, and progress as lines that `tail` can show.

Progress bars of all libraries redraw one line with carriage returns. In a file this is one line of many
thousand characters, and what stands last in it is hard to read. `JobLog` is a stream that turns them into
lines, the newest state of a bar at most every `every` seconds:

    step 22 of 50, loss=-0.100, forget_loss=0.242; 2 s so far, about 3 s left

`read_start` and `seconds_left` read these lines again, for the status of a study. Never imports torch.
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
from typing import TextIO

from pipeline_lib.core.durations import duration
from pipeline_lib.core.redaction import LINES, redacted, visible

EVERY = 15.0  # seconds between two lines of a bar

_BAR = re.compile(  # what tqdm draws
    r"^(?:(?P<what>\S.*?): *)?\s*\d+%\|.*?\| (?P<n>\S+)/(?P<total>\S+) "
    r"\[(?P<elapsed>[\d:]+)<(?P<left>[\d:]+|\?)(?:, *(?P<rate>[^,\]]+))?(?:, (?P<facts>.*))?\]$"
)
_COUNT = re.compile(  # and where it does not know the total
    r"^(?:(?P<what>\S.*?): *)?(?P<n>\d+)(?P<unit>[a-zA-Z]+) \[(?P<elapsed>[\d:]+), *(?P<rate>[^,\]]+)"
    r"(?:, (?P<facts>.*))?\]$"
)
_UNIT = re.compile(r"^\s*[\d.?]+\s*(?:s/([a-zA-Z]+)|([a-zA-Z]+)/s)$")  # of a rate: 1.50s/step, 10.9step/s
_ESCAPES = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")  # by which nested bars move the cursor
_START = re.compile(
    r"^started (?P<time>\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) UTC on (?P<host>\S+), process (?P<process>\d+)"
)
_LEFT = re.compile(r"about (?P<value>[\d.]+) (?P<unit>s|min|h|days) left$")
_SECONDS = {"s": 1.0, "min": 60.0, "h": 3600.0, "days": 86400.0}


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


def seconds_left(line: str) -> float | None:
    """The time left that a line of progress ends with; None for any other line."""
    found = _LEFT.search(line)
    return None if found is None else float(found["value"]) * _SECONDS[found["unit"]]


class JobLog(io.TextIOBase):
    """A text stream into `handle` for stdout and stderr of a job, with bars as lines.

    A bar's line is written when it is complete, when `every` seconds have passed since the last such line,
    and before anything else is written, so that the state of a bar stands above the error that ended it.
    Other text passes through as it comes.
    """

    def __init__(self, handle: TextIO, every: float = EVERY, clock: Callable[[], float] = time.monotonic):
        self._handle, self._every, self._clock = handle, every, clock
        self._bar = ""  # the newest state of a bar that no line shows yet
        self._shown = ""  # the line written last, if a bar's
        self._drawn = False  # the cursor stands behind a bar: the newline that follows belongs to it
        self._at_start = True  # of a line
        self._last = -float("inf")  # when a bar's line was written last

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

    def _draw(self, bar: str) -> None:
        """A new state of a bar; an empty one clears the line."""
        if not bar:
            self._drawn = False
            return
        words, counted, complete = in_words(bar)
        self._drawn = True
        self._bar = words if counted and words != self._shown else ""
        if self._bar and (complete or self._clock() - self._last >= self._every):
            self._show()

    def _show(self) -> None:
        self._shown, self._bar = self._bar, ""
        self._handle.write(("" if self._at_start else "\n") + self._shown + "\n")
        self._handle.flush()
        self._at_start, self._last = True, self._clock()

    def _plain(self, text: str) -> None:
        if self._bar:
            self._show()
        self._handle.write(text)
        self._at_start, self._drawn = text.endswith("\n"), False

    def flush(self) -> None:
        if not self._handle.closed:
            self._handle.flush()

    def close(self) -> None:
        """Show what no line shows yet, and end the last line. `handle` stays open."""
        if not self.closed:
            if self._bar:
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


def in_words(bar: str) -> tuple[str, bool, bool]:
    """A bar as a line for people; whether it counted anything yet, and whether it is at its end."""
    found = _BAR.match(bar)
    if found is None:
        counted = _COUNT.match(bar)
        if counted is None:
            return bar, True, False
        head = _headed(counted["what"], f"{counted['unit']} {counted['n']}", counted["facts"])
        return f"{head}; {_time(counted['elapsed'])} so far", counted["n"] != "0", False
    unit = _UNIT.search(found["rate"] or "")
    name = next((group for group in unit.groups() if group), "it") if unit else "it"
    count = f"{found['n']} of {found['total']}"
    head = _headed(found["what"], count if name == "it" else f"{name} {count}", found["facts"])
    left = "" if found["left"] == "?" else f", about {_time(found['left'])} left"
    complete = found["n"] == found["total"]
    line = f"{head}; {_time(found['elapsed'])} so far{'' if complete else left}"
    return line, not re.fullmatch(r"0(\.0+)?", found["n"]), complete


def _headed(what: str | None, count: str, facts: str | None) -> str:
    return (f"{what}: " if what else "") + count + (f", {facts.strip()}" if facts else "")


def _time(clock: str) -> str:
    """tqdm's 02:03 or 1:02:03 in words."""
    seconds = 0.0
    for part in clock.split(":"):
        seconds = 60 * seconds + float(part)
    return duration(seconds) if seconds >= 10 else f"{seconds:.0f} s"
