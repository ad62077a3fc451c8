"""Step: the report, one page that opens from disk."""

from __future__ import annotations

from pipeline_lib.reporting.html import write_report
from pipeline_lib.steps.job import Job


def run(job: Job) -> None:
    """Inputs: `files`, those of `catalog.REPORT_NEEDS` and every table and figure to show."""
    write_report(job.several("files"), job.output("report"))
