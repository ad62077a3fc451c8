"""What an evaluation says of the time it takes: after the first batch of each kind of work."""

from __future__ import annotations

import pytest

from pipeline_lib.engine import progress
from pipeline_lib.engine.progress import Progress, Work


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Progress over two splits, its clock, and the lines it printed so far, without those of the meter."""
    clock = [100.0]
    monkeypatch.setattr(progress.time, "perf_counter", lambda: clock[0])
    work = Work({"scoring": 6, "answering": 3}, {"scoring": 1500, "answering": 90})
    printed: list[str] = []

    def lines() -> list[str]:
        printed.extend(line for line in capsys.readouterr().err.splitlines() if ": step " not in line)
        return printed

    return Progress([work, work], True), clock, work, lines


def test_what_is_to_be_done_and_the_rest_of_each_kind(shown) -> None:
    told, clock, work, lines = shown
    told.announce(2, 12)
    told.kept(work)  # the rows of one split are there
    told.begin("scoring", "forget")
    clock[0] += 4.0
    told.did(2)
    clock[0] += 9.0
    told.did(1)  # only the first batch is timed
    told.begin("answering", "forget")
    clock[0] += 5.0
    told.did(0)
    told.did(3)  # nothing is left
    assert lines() == [
        "evaluating 12 records of 2 splits: 3,000 tokens to score, at most 180 to generate",
        "scoring: first 2 in 4.0 s, the other 4 in about 8.0 s",
    ]
    assert told.left == {"scoring": 3, "answering": 0}


def test_a_kind_that_takes_turns_is_timed_over_its_first_batch(shown) -> None:
    told, clock, _, lines = shown
    told.begin("answering", "forget", 3)
    clock[0] += 2.0
    told.did(1)  # the shortest answers end first and would promise too much
    told.begin("scoring", "forget", 9)
    clock[0] += 50.0
    told.begin("answering", "forget", 1)
    clock[0] += 4.0
    told.did(2)
    assert lines() == ["answering: first 3 in 6.0 s, the other 3 in about 6.0 s"]


def test_samples_and_gradients_are_announced(capsys: pytest.CaptureFixture[str]) -> None:
    work = Work({"sampling": 4, "gradients": 2}, {"scoring": 1, "answering": 2, "sampling": 3000})
    Progress([work], True).announce(1, 2)
    Progress([work], False).announce(1, 2)
    expected = "1 tokens to score, at most 2 to generate, at most 3,000 to draw, 2 gradients"
    assert capsys.readouterr().err == f"evaluating 2 records of 1 splits: {expected}\n"
