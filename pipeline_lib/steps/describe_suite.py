"""Step: the resolved suite and the table of its models, as files for readers and for the report."""

from __future__ import annotations

from pipeline_lib.core.files import write_text
from pipeline_lib.steps.job import Job


def run(job: Job) -> None:
    """Settings: `suite` (YAML) and `runs` (JSON), as text. Outputs of the same names."""
    write_text(job.output("suite"), job.settings["suite"])
    write_text(job.output("runs"), job.settings["runs"] + "\n")
