"""Step: gather the small files of a task's models into one table, of their metrics or of their costs."""

from __future__ import annotations

from pipeline_lib.reporting.collect import collect_costs, collect_metrics
from pipeline_lib.steps.job import Job


def run(job: Job) -> None:
    """Setting `collected`: "metrics" or "costs". Inputs: `metrics`, or `runs` beside their steps."""
    if job.settings["collected"] == "metrics":
        collect_metrics(job.several("metrics"), job.output("table"))
    else:
        collect_costs([path.parent for path in job.several("runs")], job.output("table"))
