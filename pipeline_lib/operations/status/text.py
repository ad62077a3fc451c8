"""The status of a study as text for a terminal, and as plain values for programs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any

from pipeline_lib.core.durations import duration
from pipeline_lib.core.runs import RowKey
from pipeline_lib.operations.plan.table import aligned
from pipeline_lib.operations.status.ending import lines_of_failures
from pipeline_lib.operations.status.logs import slurm_log
from pipeline_lib.operations.status.report import BEGUN, Report
from pipeline_lib.operations.status.states import (
    DIVERGED,
    DONE,
    FAILED,
    OVER,
    RUNNING,
    STATES,
    STOPPED,
    WAITING,
    State,
    quiet_seconds,
)

ROWS = 30  # rows of the study that are shown, unless all are asked for
JOBS = 20  # jobs of a kind that are named
QUIET = 300.0  # seconds without a sign of life that are worth a word


def status_text(report: Report, everything: bool = False) -> str:
    """Tables by rule and by row, then what runs, what failed and why, what diverged, and the time left.

    Without `everything`, long lists end with how many more there are, and rows that are done or have not
    begun are counted only.
    """
    parts = [
        [_headline(report)],
        list(aligned(_rules(report), words=1)),
        list(_rows(report, everything)),
        list(_running(report, everything)),
        list(lines_of_failures(report.of(FAILED), report.out, 10**9 if everything else JOBS)),
        list(_stopped(report, everything)),
        list(
            _named(
                "Diverged, which is a result like any other (docs/optimizers.md):",
                report.of(DIVERGED),
                lambda state: [f"  {state.job.title}"],
                everything,
            )
        ),
        list(_time_left(report)),
    ]
    return "\n\n".join("\n".join(part) for part in parts if part)


def _headline(report: Report) -> str:
    counts = Counter(state.state for state in report.states)
    done = sum(counts[state] for state in OVER)
    rest = [f"{counts[state]} {state}" for state in STATES[2:] if counts[state]]
    diverged = f" ({counts[DIVERGED]} of them diverged)" if counts[DIVERGED] else ""
    words = ", ".join([f"{done} of {len(report.states)} jobs are done{diverged}", *rest])
    work = "" if report.is_over else " No main process is at work: start snakemake to go on."
    if report.main is not None:
        work = f" Main process {report.main.process}, at work since {_clock(report.main.since)}."
    return f"{report.suite}: {words}.{work}"


def _rules(report: Report) -> list[tuple[str, ...]]:
    shown = [state for state in STATES if any(found.state == state for found in report.states)]
    left = {rule: duration(seconds) for rule, seconds in report.left.by_rule.items() if seconds}
    rows = [
        (rule, str(sum(counts.values())), *(str(counts[state] or "") for state in shown), left.get(rule, ""))
        for rule, counts in report.by_rule().items()
    ]
    return [("rule", "jobs", *shown, "work left"), *rows]


def _rows(report: Report, everything: bool) -> Iterator[str]:
    """One line a row of the study: how many of its seeds are in which state."""
    shown: list[tuple[RowKey, Counter[str]]] = []
    quiet: Counter[str] = Counter()
    for row, seeds in report.rows.items():
        counts = Counter(seeds.values())
        if everything or len(counts) > 1 or not set(counts) <= {DONE, BEGUN, WAITING}:
            shown.append((row, counts))
        else:
            quiet[next(iter(counts))] += 1
    if shown:
        order = [state for state in (*STATES, BEGUN) if any(counts[state] for _, counts in shown)]
        after = ("after",) if any(row.after for row, _ in shown) else ()
        table = [("task", "model", "method", "optimizer", *after, "seeds", *order)]
        table += [
            (
                *(row.task, row.model, row.method, row.optimizer, *([row.after] if after else [])),
                str(sum(counts.values())),
                *(str(counts[state] or "") for state in order),
            )
            for row, counts in (shown if everything else shown[:ROWS])
        ]
        yield from aligned(table, words=4 + len(after))
    more = 0 if everything else len(shown[ROWS:])
    rest = [f"{more} more like these"] if more else []
    rest += [f"{count} with all seeds {state}" for state, count in quiet.items()]
    if rest:
        yield f"Rows{' besides' if shown else ''}: {', '.join(rest)}{'' if everything else ' (--all)'}"


def _running(report: Report, everything: bool) -> Iterator[str]:
    def lines(state: State) -> Iterator[str]:
        assert state.log is not None
        quiet = quiet_seconds(state.job, state.log, report.out, report.now)
        silence = f" (no sign of life for {duration(quiet)})" if quiet > QUIET else ""
        yield f"  {state.job.title}: {state.log.last or 'has begun'}{silence}"

    return _named("Running:", report.of(RUNNING), lines, everything)


def _stopped(report: Report, everything: bool) -> Iterator[str]:
    def lines(state: State) -> Iterator[str]:
        assert state.log is not None
        yield f"  {state.job.title}: {state.log.last or 'had just begun'}"
        if told := slurm_log(report.out.parent.parent, state.job.rule, state.job.name):
            yield f"    SLURM's log: {told}"

    title = (
        "Stopped without an error in their logs: killed, out of memory or out of time. The next call of "
        "snakemake continues them from their checkpoints:"
    )
    return _named(title, report.of(STOPPED), lines, everything)


def _named(
    title: str, states: Sequence[State], lines: Callable[[State], Iterable[str]], everything: bool
) -> Iterator[str]:
    """The lines of each job below a title, of the first ones unless all are asked for."""
    if states:
        yield title
    for state in states if everything else states[:JOBS]:
        yield from lines(state)
    if not everything and len(states) > JOBS:
        yield f"  and {len(states) - JOBS} more (--all)"


def _time_left(report: Report) -> Iterator[str]:
    left = report.left
    if report.is_over:
        yield f"Nothing is left to do. The report: {report.out / 'report/index.html'}"
        return
    unknown = f", and {left.unknown} jobs of which nothing is known yet" if left.unknown else ""
    if not left.known:
        yield (
            f"Work left: not known yet; from what is done, about {duration(left.work / left.doubt)} to "
            f"{duration(left.work * left.doubt)}, one job after the other{unknown}."
        )
        return
    line = f"Work left: about {duration(left.work)}, one job after the other{unknown}."
    if left.seconds is not None and left.at_a_time is not None:
        line += (
            f" At {left.at_a_time:.1f} jobs at a time, as until now: {duration(left.seconds)}, until "
            f"{_clock(report.now + left.seconds)}."
        )
    yield line


def _clock(moment: float) -> str:
    return datetime.fromtimestamp(moment).strftime("%a %H:%M")


def as_values(report: Report) -> dict[str, Any]:
    """The whole status as plain values, for `--json`; times in seconds, moments since 1970."""
    left, counts = report.left, Counter(state.state for state in report.states)
    return {
        "suite": report.suite,
        "folder": str(report.out),
        "now": report.now,
        "main_process": None
        if report.main is None
        else {"process": report.main.process, "since": report.main.since},
        "jobs": {"all": len(report.states), **{state: counts[state] for state in STATES}},
        "rules": {
            rule: {state: found[state] for state in STATES} for rule, found in report.by_rule().items()
        },
        "rows": [{**row._asdict(), "seeds": seeds} for row, seeds in report.rows.items()],
        "unfinished": [
            {
                "job": state.job.title,
                "state": state.state,
                "log": str(report.out / state.job.log),
                "last_line": state.log.last,
                "error": list(state.log.error),
                "seconds_left": state.log.left if state.state == RUNNING else None,
                "quiet_seconds": quiet_seconds(state.job, state.log, report.out, report.now),
            }
            for state in report.states
            if state.log is not None
        ],
        "diverged": [state.job.title for state in report.of(DIVERGED)],
        "work_left": left.work if left.known else None,
        "work_left_between": [left.work / left.doubt, left.work * left.doubt],
        "jobs_at_a_time": left.at_a_time,
        "seconds_left": left.seconds,
        "jobs_of_unknown_length": left.unknown,
    }
