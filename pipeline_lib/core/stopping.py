"""A job that is asked to end (SIGTERM) leaves at the next point from which it can continue.

SLURM sends the signal at a time limit, a preemption and `scancel`, and kills the job KillWait seconds later
(30 by default). A job with nothing to save ends at once; a training loop first writes a checkpoint of the
step it has taken.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

STATUS = 128 + signal.SIGTERM  # exit status of a job that was asked to end, as in shells
AGAIN = "the same command continues from there"


class Stopped(BaseException):
    """The job was asked to end; the message says what is kept.

    No `Exception`, so that code which explains the errors of another library does not explain this one.
    """


SAME = 2.0  # seconds in which a further signal is the same request

_signals: list[float] = []  # when each came; no lock, as one may come while another is handled
_waiting: list[None] = []  # one for each active block of `deferred`


def listen() -> None:
    """Raise `Stopped` when this process is asked to end; for the main thread of a job's process."""
    signal.signal(signal.SIGTERM, _on_signal)


def _on_signal(number: int, frame: FrameType | None) -> None:
    """The first signal counts: a scheduler sends it to several processes of a job, and some pass it on."""
    _signals.append(time.monotonic())
    if not _waiting and (len(_signals) == 1 or _signals[-1] - _signals[-2] > SAME):
        raise Stopped(f"asked to end by a signal (SIGTERM); what is finished is kept, and {AGAIN}")


@contextmanager
def deferred() -> Iterator[None]:
    """Inside, a request to end waits until the code asks for it with `asked`."""
    _waiting.append(None)
    try:
        yield
    finally:
        _waiting.pop()


def asked() -> bool:
    """Whether this process was asked to end."""
    return bool(_signals)
