"""Bars of tqdm become lines, everything else passes through, and the lines can be read again."""

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
from pipeline_lib.core.joblog import JobLog, in_words, read_start, seconds_left, start_line
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


def bar(n: int, elapsed: float, total: int | None = 50, **more) -> str:
    """What tqdm writes for this state of a bar."""
    return "\r" + tqdm.format_meter(n, total, elapsed, **{"unit": "step", **more})


def test_a_bar_says_step_total_losses_and_time_left() -> None:
    drawn = bar(20, 4.0, postfix="loss=-0.100, forget_loss=0.242").strip()
    expected = "step 20 of 50, loss=-0.100, forget_loss=0.242; 4 s so far, about 6 s left"
    assert in_words(drawn) == (expected, True, False)
    assert seconds_left(expected) == 6.0


@pytest.mark.parametrize(
    ("drawn", "words"),
    [
        (bar(100, 400.0, 1000), "step 100 of 1000; 7 min so far, about 60 min left"),
        (bar(2, 20000.0, 10), "step 2 of 10; 5.6 h so far, about 22.2 h left"),
        (bar(40, 80.0, 280, prefix="scoring a"), "scoring a: step 40 of 280; 80 s so far, about 8 min left"),
        (bar(50, 10.0), "step 50 of 50; 10 s so far"),
        (bar(7, 3.0, 9, unit="it"), "7 of 9; 3 s so far, about 0 s left"),
        (bar(12, 5.0, None, unit="product", prefix="cg"), "cg: product 12; 5 s so far"),
    ],
)
def test_other_bars(drawn: str, words: str) -> None:
    assert in_words(drawn.strip())[0] == words


def test_lines_come_every_fifteen_seconds_and_at_the_end(clock: Clock) -> None:
    handle, log = opened(clock)
    for n in range(51):
        clock.now = n
        log.write(bar(n, float(n)))
    log.write("\n")
    assert [line.split(";")[0] for line in handle.getvalue().splitlines()] == [
        "step 1 of 50",
        "step 16 of 50",
        "step 31 of 50",
        "step 46 of 50",
        "step 50 of 50",
    ]


def test_the_state_of_a_bar_stands_above_the_error_that_ended_it(clock: Clock) -> None:
    handle, log = opened(clock)
    log.write(bar(1, 1.0))
    clock.now = 3.0
    log.write(bar(22, 3.0))
    log.write("\n")
    print("error: no room left", file=log)
    first, second, third = handle.getvalue().splitlines()
    assert first.startswith("step 1 of 50")
    assert second.startswith("step 22 of 50")
    assert third == "error: no room left"


def test_what_no_line_shows_yet_is_shown_at_the_end(clock: Clock) -> None:
    handle, log = opened(clock)
    log.write(bar(1, 1.0))
    log.write(bar(2, 2.0))
    log.close()
    assert handle.getvalue().splitlines()[-1].startswith("step 2 of 50")
    assert not handle.closed


def test_real_bars_leave_no_carriage_return(clock: Clock) -> None:
    handle, log = opened(clock)
    with tqdm(total=3, file=log, unit="step", mininterval=0) as shown:
        for n in range(3):
            clock.now += 20
            shown.update()
            tqdm.write(f"said {n}", file=log)
    for _ in tqdm(range(2), desc="outer", file=log, mininterval=0):
        for _ in tqdm(range(2), desc="inner", file=log, mininterval=0, leave=False):
            clock.now += 1
    log.close()
    text = handle.getvalue()
    assert "\r" not in text
    assert "\x1b" not in text
    lines = text.splitlines()
    assert [line for line in lines if line.startswith("said")] == ["said 0", "said 1", "said 2"]
    counts = [line.split(";")[0] for line in lines]
    for wanted in ("step 1 of 3", "step 2 of 3", "step 3 of 3", "inner: 2 of 2", "outer: 2 of 2"):
        assert wanted in counts
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
    assert seconds_left(f"step 1 of 2; 3 s so far, about {text} left") == pytest.approx(seconds)
