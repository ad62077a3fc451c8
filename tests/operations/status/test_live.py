"""What is shown of a study while it runs, on a study of made-up files."""

from __future__ import annotations

import fcntl
import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from rich.console import Console

from pipeline_lib.operations.status import live
from pipeline_lib.operations.status.report import report_of
from tests.operations.status.study import Files, small_suite

ROW = "authors/tiny/GradDiff"
ERROR = "Traceback (most recent call last):\n  File 'x'\nOSError: [Errno 28] No space \x1b[31mleft\n"


@pytest.fixture
def files(tmp_path: Path) -> Files:
    found = Files(tmp_path / "results/small", small_suite())
    found.done("finetune authors/tiny/original/none/seed0")
    found.done(f"unlearn {ROW}/wild/seed0", status="diverged")
    found.log(f"unlearn {ROW}/adamw/seed0", "step 3 of 9, loss=2.5; 2 s so far, about 40 s left\n", left=40)
    return found


def screen(files: Files, width: int) -> list[str]:
    console = Console(file=io.StringIO(), width=width, force_terminal=False)
    console.print(live.view(report_of(files.suite, files.out), width))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().rstrip("\n").split("\n")


@pytest.mark.parametrize("width", [30, 60, 200])
def test_the_view_has_a_bar_the_counts_and_a_line_for_each_running_job(files: Files, width: int) -> None:
    bar, counts, running = screen(files, width)
    assert set(bar.strip()) <= set("━╸╺ ") and all(len(line) <= width for line in (bar, counts, running))
    assert counts.startswith("small: 2 of ")
    assert running.startswith(f"  unlearn {ROW}"[: width - 1])
    if width == 200:
        assert "jobs are done, 1 diverged, 1 running" in counts
        assert running.rstrip().endswith("step 3 of 9, loss=2.5; 2 s so far, about 40 s left")


@contextmanager
def working(files: Files) -> Iterator[None]:
    """A process holds the lock of the results."""
    with open(files.out / ".lock", "w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def watched(files: Files, during: Callable[[int], None], monkeypatch: pytest.MonkeyPatch) -> str:
    """What is printed without a terminal in three looks, before each of which `during` is called."""
    monkeypatch.setattr(live, "LINES", 0.0)
    monkeypatch.setattr(live, "SHARE", 0)
    looks = iter(range(3))

    def runs() -> bool:
        look = next(looks, None)
        if look is not None:
            during(look)
        return look is not None

    out = io.StringIO()
    live.watch(files.suite, files.out, Console(file=out, width=500), runs)
    return out.getvalue()


def test_a_failure_is_told_once_and_lines_come_with_changes(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    def during(look: int) -> None:
        if look == 1:
            files.log(f"unlearn {ROW}/sophia/seed0", ERROR)

    with working(files):
        lines = watched(files, during, monkeypatch).splitlines()
    assert lines[0].startswith("small: 2 of ") and "1 running" in lines[0]
    assert lines[1] == "Failed: 1 job(s)"
    assert lines[2] == f"  unlearn {ROW}/sophia/seed0"
    assert "No space" in lines[-2] and "\x1b" not in lines[-2]
    assert "1 failed" in lines[-1]
    assert sum("No space" in line for line in lines) == 1
    assert sum(line.startswith("small:") for line in lines) == 2, "the third look saw nothing new"


def test_a_job_that_failed_in_an_earlier_run_is_told_when_it_fails_again(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    files.log(f"unlearn {ROW}/sophia/seed0", ERROR, age=1000)

    def during(look: int) -> None:
        if look == 2:
            files.log(f"unlearn {ROW}/sophia/seed0", ERROR)

    with working(files):
        lines = watched(files, during, monkeypatch).splitlines()
    assert [line.split(":")[0] for line in lines].count("Failed") == 1
    assert lines.index("Failed: 1 job(s)") > 0, "not at the first look, at which it only waits for its turn"


def test_nothing_is_shown_before_a_main_process_is_at_work(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert watched(files, lambda look: None, monkeypatch) == ""
