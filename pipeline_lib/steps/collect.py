"""Step: gather the small files of a task's models into one table: scores of questions, metrics, or costs."""

from __future__ import annotations

from pipeline_lib.core.files import read_object
from pipeline_lib.reporting.collect import beside_others, collect_costs, collect_metrics, collect_scores
from pipeline_lib.reporting.scores import read_paths
from pipeline_lib.steps.job import Job


def run(job: Job) -> None:
    """Setting `collected`: "scores", "metrics" or "costs". Inputs: files of that name of every model.

    For the metrics also `scores`, the collected ones, `manifest`, and where runs were judged on their way
    `paths`, their logs, with the setting `levels`; `learned` where stages teach forget groups. For the costs
    `runs` beside their steps.
    """
    what = job.settings["collected"]
    if what == "scores":
        collect_scores(job.several("scores"), job.output("table"))
    elif what == "metrics":
        manifest = job.input("manifest")
        logs = job.several("paths") if job.inputs.get("paths") else ()
        paths = read_paths(logs, job.settings.get("levels", {}), job.settings.get("learned"))
        beside = beside_others(job.input("scores"), {manifest.parent.name: read_object(manifest)}, paths)
        collect_metrics(job.several("metrics"), job.output("table"), beside)
    else:
        collect_costs([path.parent for path in job.several("runs")], job.output("table"))
