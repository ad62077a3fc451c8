"""Step: one table, as csv, Markdown and LaTeX."""

from __future__ import annotations

from pipeline_lib.reporting.tables import write_table
from pipeline_lib.steps.job import Job


def run(job: Job) -> None:
    """Settings: `item`, its name, and `tasks`, those that it shows (None: all). Inputs: `files`."""
    name, tasks = job.settings["item"], job.settings["tasks"]
    csv, md, tex = (job.output(form) for form in ("csv", "md", "tex"))
    write_table(name, job.several("files"), csv, md, tex, tasks)
