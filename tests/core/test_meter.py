"""A loop says how far it is in words, and a job keeps it in a file while that is so."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from pathlib import Path

import pytest

from pipeline_lib.core import meter as module
from pipeline_lib.core.joblog import JobLog, progress_file
from pipeline_lib.core.meter import Meter


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(module.time, "monotonic", found)
    return found


@contextmanager
def job(folder: Path) -> Iterator[Path]:
    """The log of a job, to which this process writes."""
    path = folder / "job.log"
    with path.open("a", buffering=1) as handle, JobLog(handle, path) as stream, redirect_stderr(stream):
        yield path


@pytest.mark.parametrize(
    ("total", "unit", "what", "done", "seconds", "line"),
    [
        (50, "step", "", 20, 4, "step 20 of 50; 4.0 s so far, about 6.0 s left"),
        (1000, "step", "", 100, 400, "step 100 of 1000; 7 min so far, about 60 min left"),
        (10, "step", "", 2, 20000, "step 2 of 10; 5.6 h so far, about 22.2 h left"),
        (280, "step", "scoring a", 40, 80, "scoring a: step 40 of 280; 80 s so far, about 8 min left"),
        (50, "step", "", 50, 10, "step 50 of 50; 10 s so far"),
        (None, "product", "cg", 12, 5, "cg: product 12; 5.0 s so far"),
    ],
)
def test_lines_are_words(
    total: int | None,
    unit: str,
    what: str,
    done: int,
    seconds: float,
    line: str,
    clock: Clock,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with Meter(total, unit, what) as meter:
        clock.now = seconds
        meter.update(done)
    assert capsys.readouterr().err == line + "\n"


def test_facts_stand_between_count_and_time(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with Meter(50, "step") as meter:
        clock.now = 4.0
        meter.update(20, "loss=-0.100, forget_loss=0.242")
    expected = "step 20 of 50, loss=-0.100, forget_loss=0.242; 4.0 s so far, about 6.0 s left\n"
    assert capsys.readouterr().err == expected


def test_lines_come_every_fifteen_seconds_and_at_the_end(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(KeyboardInterrupt), Meter(60, "step") as meter:
        for second in range(1, 51):
            clock.now = second
            meter.update()
        raise KeyboardInterrupt
    counts = [line.split(";")[0] for line in capsys.readouterr().err.splitlines()]
    assert counts == [f"step {n} of 60" for n in (1, 16, 31, 46, 50)]


def test_what_earlier_processes_did_says_nothing_about_the_time(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    with Meter(100, "step", done=50) as meter:
        meter.skip(20)
        clock.now = 10.0
        meter.update(10)
    assert capsys.readouterr().err == "step 80 of 100; 10 s so far, about 20 s left\n"


def test_nothing_done_and_nothing_to_show_say_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with Meter(3, "step") as meter:
        meter.update(0)
    with Meter(3, "step", show=False) as meter:
        meter.update()
    assert capsys.readouterr().err == ""


def test_a_job_keeps_its_progress_beside_its_log_while_it_works(clock: Clock, tmp_path: Path) -> None:
    with job(tmp_path) as log:
        with Meter(50, "step") as meter:
            clock.now = 4.0
            meter.update(20)
            told = json.loads(progress_file(log).read_text())
            assert told.pop("time") > 0
            line = "step 20 of 50; 4.0 s so far, about 6.0 s left"
            assert told == {"line": line, "done": 20, "total": 50, "seconds_left": 6.0}
            assert log.read_text() == line + "\n"
            with Meter(9, "step", show=False) as other:
                other.update(9)
            assert progress_file(log).is_file(), "of the process that shows it"
        assert [path.name for path in tmp_path.iterdir()] == ["job.log"]


def test_what_a_killed_job_left_is_removed_when_it_runs_again(tmp_path: Path) -> None:
    path = tmp_path / "job.log"
    progress_file(path).write_text("{}")
    with path.open("a") as handle, JobLog(handle, path):
        assert not progress_file(path).exists()


def test_a_full_disk_stops_no_loop(clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "write_json", full)
    with job(tmp_path) as log, Meter(2, "step") as meter:
        meter.update(2)
    assert log.read_text() == "step 2 of 2; 0.0 s so far\n"
