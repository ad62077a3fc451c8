"""Step: one figure, as svg and png."""

from __future__ import annotations

from pipeline_lib.reporting.figures import draw_figure
from pipeline_lib.steps.job import Job


def run(job: Job) -> None:
    """Settings: `item`, its name, and `tasks`, those that it shows (None: all). Inputs: `files`."""
    draw_figure(
        job.settings["item"],
        job.several("files"),
        job.output("svg"),
        job.output("png"),
        job.settings["tasks"],
    )
