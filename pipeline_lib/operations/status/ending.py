"""What is said when a run of the workflow ends: what failed, and the last lines of the right logs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from pipeline_lib.core.redaction import listed
from pipeline_lib.operations.status.logs import headline, slurm_log
from pipeline_lib.operations.status.states import DIVERGED, FAILED, OVER, State, states_of
from pipeline_lib.study.graph import Graph
from pipeline_lib.study.suite import Suite

GOES_ON = "The same command goes on with what is left; `unlearning status` tells more."  # where jobs failed
NAMED = 3  # jobs that failed in the same way and are named


def ending_text(suite: Suite, out: Path, since: float = 0.0) -> str:
    """The summary that the workflow prints at its end, whether it ended well or not.

    `since`: when the run began, in seconds since 1970; older logs belong to earlier runs and are left out.
    The main process still lives here, but none of its jobs.
    """
    states = list(states_of(Graph(suite).study(), out, main=None))
    this_run = [state for state in states if state.log is not None and state.log.changed >= since]
    over = sum(state.state in OVER for state in states)
    diverged = [state.job.title for state in states if state.state == DIVERGED]
    lines = [f"{suite.suite}: {over} of {len(states)} jobs of the whole study are done."]
    if diverged:
        lines.append(f"{len(diverged)} diverged: {listed(diverged, NAMED)}.")
    failed = [state for state in this_run if state.state == FAILED]
    stopped = [state for state in this_run if state.state not in (*OVER, FAILED)]
    lines += lines_of_failures(failed, out, most=10)
    if stopped:
        lines.append("Ended without an error in their logs (killed, out of memory or out of time):")
        for state in stopped[:10]:
            told = slurm_log(out.parent.parent, state.job.rule, state.job.name)
            lines.append(f"  {state.job.title}: {told or out / state.job.log}")
        if len(stopped) > 10:
            lines.append(f"  and {len(stopped) - 10} more")
    if failed or stopped:
        lines.append(GOES_ON)
    return "\n".join(lines)


def lines_of_failures(failed: Sequence[State], out: Path, most: int) -> Iterator[str]:
    """The last lines of the log of each failed job; of jobs that failed in the same way, one log."""
    alike: dict[str, list[State]] = {}
    for state in failed:
        if state.log is not None:
            alike.setdefault(headline(state.log.error), []).append(state)
    if alike:
        yield f"Failed: {len(failed)} job(s)" + (f" in {len(alike)} ways" if len(alike) > 1 else "")
    for states in list(alike.values())[:most]:
        first, *others = (state.job for state in states)
        also = f", and in the same way {listed([job.title for job in others], NAMED)}" if others else ""
        yield f"  {first.title}{also}"
        yield f"    {out / first.log} ends with"
        if states[0].log is not None:
            yield from (f"      {line}" for line in states[0].log.error)
    if len(alike) > most:
        yield f"  and {len(alike) - most} other ways"
