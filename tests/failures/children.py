"""Runs a function in a process of its own, to be killed, starved or left alone.

The process is a fork: it has everything imported already, so that thirty kills take seconds and not minutes.
The parent must not have computed anything with torch, which does not survive a fork.
"""

from __future__ import annotations

import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pipeline_lib.core.errors import UserError
from pipeline_lib.core.system_errors import explained


@dataclass(frozen=True)
class Ended:
    """How a process ended: status 0, 1 with a message for people, 2 with a traceback, or by a signal."""

    status: int  # negative: the signal
    said: str  # its stderr
    seconds: float

    @property
    def well(self) -> bool:
        return self.status == 0

    @property
    def killed(self) -> bool:
        return self.status == -signal.SIGKILL

    @property
    def message(self) -> str:
        """The last line that the process said."""
        return (self.said.strip().splitlines() or [""])[-1]


def run(function: Callable[[], object], said: Path, kill_after: float | None = None) -> Ended:
    """Run `function` in a child; with `kill_after` (seconds) it gets SIGKILL then, if it still runs."""
    started = time.monotonic()
    child = start(function, said)
    if kill_after is not None:
        while time.monotonic() - started < kill_after:
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                return _ended(status, said, started)
            time.sleep(0.001)
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    return _ended(status, said, started)


def start(function: Callable[[], object], said: Path) -> int:
    """The process number of a child that runs `function`; its output goes to `said`."""
    sys.stdout.flush()
    child = os.fork()
    if child:
        return child
    status = 2
    try:
        handle = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(handle, 1)
        os.dup2(handle, 2)
        function()
        status = 0
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        status = 1
    except BaseException as error:
        if told := explained(error):
            print(f"error: {told}", file=sys.stderr)
            status = 1
        else:
            traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


def _ended(status: int, said: Path, started: float) -> Ended:
    text = said.read_text(errors="replace") if said.is_file() else ""
    return Ended(os.waitstatus_to_exitcode(status), text, time.monotonic() - started)
