"""Step: one table, as csv, Markdown and LaTeX."""

from __future__ import annotations

from pipeline_lib.reporting.tables import write_table
from pipeline_lib.steps.job import Job


def run(job: Job) -> None:
    """Settings: `item`, its name, and `tasks`, those that it shows (None: all). Inputs: `files`."""
    write_table(
        job.settings["item"],
        job.several("files"),
        job.output("csv"),
        job.output("md"),
        job.output("tex"),
        job.settings["tasks"],
    )
