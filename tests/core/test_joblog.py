"""Redrawn lines become few lines, everything else passes through, and the first line can be read again."""

from __future__ import annotations

import io
import os
import socket
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tqdm import tqdm

from pipeline_lib.core.durations import duration
from pipeline_lib.core.joblog import JobLog, read_start, start_line
from pipeline_lib.core.redaction import visible


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def opened(clock: Clock) -> tuple[io.StringIO, JobLog]:
    handle = io.StringIO()
    return handle, JobLog(handle, every=15.0, clock=clock)


def test_of_a_redrawn_line_a_state_is_shown_every_fifteen_seconds_and_at_the_end(clock: Clock) -> None:
    handle, log = opened(clock)
    for n in range(51):
        clock.now = n
        log.write(f"\rloaded {n} of 50")
    log.write("\n")
    log.close()
    assert handle.getvalue().splitlines() == [f"loaded {n} of 50" for n in (0, 15, 30, 45, 50)]
    assert not handle.closed


def test_the_newest_state_stands_above_the_error_that_ended_it(clock: Clock) -> None:
    handle, log = opened(clock)
    log.write("\rloaded 1")
    clock.now = 3.0
    log.write("\rloaded 22")
    log.write("\n")
    print("error: no room left", file=log)
    assert handle.getvalue().splitlines() == ["loaded 1", "loaded 22", "error: no room left"]


def test_bars_of_a_library_leave_no_carriage_return(clock: Clock) -> None:
    handle, log = opened(clock)
    with tqdm(total=3, file=log, unit="step", mininterval=0) as shown:
        for n in range(3):
            clock.now += 20
            shown.update()
            tqdm.write(f"said {n}", file=log)
    for _ in tqdm(range(2), desc="outer", file=log, mininterval=0):
        for _ in tqdm(range(2), desc="inner", file=log, mininterval=0, leave=False):
            clock.now += 20
    log.close()
    text = handle.getvalue()
    assert "\r" not in text
    assert "\x1b" not in text
    lines = text.splitlines()
    assert [line for line in lines if line.startswith("said")] == ["said 0", "said 1", "said 2"]
    for wanted in ("1/3", "2/3", "3/3", "inner: 100%", "outer: 100%"):
        assert [line for line in lines if wanted in line], wanted
    assert "" not in lines, "a bar's own newline leaves no empty line"


@given(st.lists(st.text(st.characters(blacklist_characters="\r\x1b"))))
def test_other_text_passes_through(texts: list[str]) -> None:
    handle, log = opened(Clock())
    for text in texts:
        assert log.write(text) == len(text)
    assert handle.getvalue() == visible("".join(texts))


def test_who_runs_a_job_can_be_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    before = int(time.time())
    line = start_line()
    assert line.endswith(", SLURM job 17\n")
    start = read_start(line)
    assert start is not None
    assert (start.host, start.process) == (socket.gethostname(), os.getpid())
    assert before <= start.time <= time.time()
    assert read_start("error: something else") is None


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0.4 s"), (12, "12 s"), (180, "3 min"), (9000, "2.5 h"), (267840, "3.1 days")],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text
