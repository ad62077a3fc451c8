"""Runs and stages judged on their way: whether their steps are as many as the suite asks for points."""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil

from pipeline_lib.operations.plan.jobs import planned_jobs
from pipeline_lib.operations.plan.training import Training
from pipeline_lib.stages.base import name_of
from pipeline_lib.study.stages import applied
from pipeline_lib.study.suite import Suite


def short_paths(suite: Suite) -> Iterator[str]:
    """One line for each number of points that too short runs leave."""
    judged = {
        run.row: ("evaluation.trajectory", found.points)
        for run in suite.run_table()
        if (found := suite.judged(run)) is not None
    }
    judged |= {
        row.key: (f"stages.{row.label}", points)
        for row in applied(suite.stages, suite.rows())[0]
        if (points := row.stage.judged()) is not None
    }
    short: dict[tuple[str, int, int], dict[str, None]] = {}
    for job, work in planned_jobs(suite) if judged else ():
        if job.rule in ("unlearn", "stage") and isinstance(work, Training) and job.row in judged:
            left = work.steps - max(1, ceil(work.settings.warmup * work.steps)) + 1
            if left < judged[job.row][1]:
                short.setdefault((*judged[job.row], left), {})[name_of(job.row)] = None
    for (where, points, left), names in short.items():
        takes = f"{'takes' if len(names) == 1 else 'take'} {left} step{'' if left == 1 else 's'}"
        yield (
            f"{where}.points is {points}, but from the end of the warm-up {', '.join(names)} {takes}: no "
            "more are judged. Train longer, or ask for fewer points."
        )
