"""How far a job is: lines in words in its log, and a small file beside the log for `unlearning status`.

Never imports torch.
"""

from __future__ import annotations

import math
import sys
import time
from contextlib import suppress
from typing import Self

from pipeline_lib.core.durations import duration
from pipeline_lib.core.errors import UserError
from pipeline_lib.core.files import write_json
from pipeline_lib.core.joblog import EVERY, JobLog


class Meter:
    """Counts work, as a context manager, and says on stderr how far it is:

        step 22 of 50, loss=-0.100, forget_loss=0.242; 2.0 s so far, about 2.5 s left

    There is a line for the first step, then at most one every `EVERY` seconds, and one at the end, which an
    error may bring; it stands above that error. With every line, the log's progress file is replaced:
    `line`, `done`, `total`, `seconds_left` and `time` (seconds since 1970). At the end the file goes.

    `total`: None where it is not known. `unit`, `what`: of the count, and of the work. `done`: what earlier
    processes did. `show`: only one of several processes that share a job should.
    """

    def __init__(self, total: int | None, unit: str, what: str = "", done: int = 0, show: bool = True):
        self.total, self.unit, self.what, self.show = total, unit, what, show
        self.done = self._told = self._before = done
        self._facts = ""
        self._began, self._last = time.monotonic(), -math.inf

    def __enter__(self) -> Self:
        return self

    def update(self, count: int = 1, facts: str = "") -> None:
        """`count` more are done; `facts` are shown with them."""
        self.done += count
        self._facts = facts
        if self.done == self.total or time.monotonic() - self._last >= EVERY:
            self._tell()

    def skip(self, count: int) -> None:
        """`count` were done before, and say nothing about the time that others take."""
        self.done += count
        self._before += count

    def __exit__(self, *error: object) -> None:
        self._tell()
        if self.show and isinstance(sys.stderr, JobLog):
            sys.stderr.forget_progress()

    def _tell(self) -> None:
        if not self.show or self.done == self._told:
            return
        self._told, self._last = self.done, time.monotonic()
        taken, here = self._last - self._began, self.done - self._before
        left = None if self.total is None or not here else taken / here * (self.total - self.done)
        what = f"{self.what}: " if self.what else ""
        count = f"{self.unit} {self.done}" + ("" if self.total is None else f" of {self.total}")
        facts = f", {self._facts}" if self._facts else ""
        rest = f", about {duration(left)} left" if left else ""
        line = f"{what}{count}{facts}; {duration(taken)} so far{rest}"
        print(line, file=sys.stderr, flush=True)
        if isinstance(sys.stderr, JobLog) and sys.stderr.progress is not None:
            told = {"line": line, "done": self.done, "total": self.total, "seconds_left": left}
            with suppress(UserError, OSError):  # a full disk; the log says why, if the job needs it
                write_json(sys.stderr.progress, {**told, "time": time.time()})
