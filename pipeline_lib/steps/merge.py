"""Step: merge the tables of single tasks into that of the suite."""

from __future__ import annotations

from pipeline_lib.reporting.collect import merge_tables
from pipeline_lib.steps.job import Job


def run(job: Job) -> None:
    """Inputs: `parts`."""
    merge_tables(job.several("parts"), job.output("table"))
