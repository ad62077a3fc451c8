"""A study while it runs: a view that is drawn anew on a terminal, and plain lines elsewhere."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline_lib.core.durations import duration
from pipeline_lib.core.errors import UserError
from pipeline_lib.core.redaction import visible
from pipeline_lib.operations.status.ending import lines_of_failures
from pipeline_lib.operations.status.report import Report, report_of
from pipeline_lib.operations.status.states import FAILED, OVER, RUNNING, STATES
from pipeline_lib.study import Suite

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

PAUSE = 2.0  # seconds between two looks, and at least as many times what a look takes as
SHARE = 20
LINES = 15.0  # seconds between two plain lines
SHOWN = 12  # running jobs
BAR = 60  # characters


def watch(suite: Suite, out: Path, console: Console, runs: Callable[[], bool]) -> None:
    """Show how far the study in `out` is while `runs()`.

    A job that fails is told when it does, with its cause, and stays on the screen above the view.
    """
    from rich.live import Live

    told: set[str] = set()
    last, drawn = "", console.is_terminal
    with Live(console=console, transient=True, auto_refresh=False) if drawn else nullcontext() as live:
        for report in _looks(suite, out, runs, PAUSE if drawn else LINES):
            lines = list(_new_failures(report, told))
            if live is not None:
                live.update(view(report, console.width), refresh=True)
            elif (line := progress(report)) != last:
                last = line
                lines.append(line)
            for line in lines:
                console.print(line, markup=False, highlight=False, soft_wrap=True)


def _looks(suite: Suite, out: Path, runs: Callable[[], bool], pause: float) -> Iterator[Report]:
    """Reports of the study, once its main process is at work."""
    while runs():
        began = time.monotonic()
        try:
            report = report_of(suite, out) if (out / ".lock").exists() else None
        except UserError:  # the results of another study, which the main process refuses
            report = None
        if report is not None and report.main is not None:
            yield report
        end = time.monotonic() + max(pause, SHARE * (time.monotonic() - began))
        while time.monotonic() < end and runs():
            time.sleep(0.2)


def progress(report: Report) -> str:
    """How far the study is, in one line."""
    counts = Counter(state.state for state in report.states)
    done = sum(counts[state] for state in OVER)
    parts = [f"{done} of {len(report.states)} jobs are done"]
    parts += [f"{counts[state]} {state}" for state in STATES[1:-1] if counts[state]]
    if report.left.seconds is not None:
        parts.append(f"about {duration(report.left.seconds)} left")
    return f"{report.suite}: {', '.join(parts)}"


def view(report: Report, width: int) -> RenderableType:
    """A bar, the line of progress, and the last line of each running job; none is broken at the margin."""
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    running = report.of(RUNNING)
    lines = [progress(report)]
    for state in running[:SHOWN]:
        lines.append(f"  {state.job.title}: {(state.log and state.log.last) or 'has begun'}")
    lines += [f"  and {len(running) - SHOWN} more"] if len(running) > SHOWN else []
    shown = Table.grid()
    done = len(report.of(*OVER))
    shown.add_row(ProgressBar(total=len(report.states), completed=done, width=min(width, BAR)))
    for line in lines:
        shown.add_row(Text(visible(line), no_wrap=True, overflow="ellipsis"))
    return shown


def _new_failures(report: Report, told: set[str]) -> Iterator[str]:
    """The lines about jobs that failed in this run, once each; those of an earlier one are tried again."""
    since = report.main.since if report.main else report.now
    failed = [state for state in report.of(FAILED) if state.log and state.log.changed >= since]
    new = [state for state in failed if state.job.title not in told]
    told |= {state.job.title for state in new}
    yield from map(visible, lines_of_failures(new, report.out, most=10))
