"""Step: turn per-example records into metrics with intervals. Needs no model and no torch."""

from __future__ import annotations

from pipeline_lib.core.files import read_object, write_json
from pipeline_lib.core.runs import LOST, key_of
from pipeline_lib.metrics.scored_files import score_files
from pipeline_lib.metrics.scores import Scored
from pipeline_lib.reporting.cells import write_csv
from pipeline_lib.reporting.made_of import made_of
from pipeline_lib.reporting.scores import SCORE_COLUMNS, lines_of
from pipeline_lib.steps.job import Job


def run(job: Job) -> None:
    """Write `metrics` and `scores`, those of single questions, of one run, compared with the `retrained`
    model's records, the input `reference`.

    Without such a model (None) nothing is compared. The other inputs are the task's `manifest`, the run's
    `run`, and what its evaluations wrote: `records`, `equal_retain`, and where the study has them
    `benchmarks`, `toxicity`, `judge`, what was found out about the toxicity classifier, `inside`, and
    `inside_reference`, that of `retrained`.
    """
    info = read_object(job.input("run"), "status", "diverged_step")
    files = (
        *("records", "reference", "manifest", "equal_retain", "toxicity", "judge", "benchmarks"),
        *("inside", "inside_reference"),
    )
    metrics, not_measured, questions = (
        Scored([], [], [])
        if info["status"] in LOST
        else score_files({name: job.optional(name) for name in files})
    )
    for lack in not_measured:
        which = (
            ""
            if lack["not_measured"] == lack["of"]
            else f" for {lack['not_measured']} of {lack['of']} records"
        )
        print(f"{lack['metric']} of split {lack['split']}: not measured{which}, needs {lack['needs']}")
    write_csv(job.output("scores"), SCORE_COLUMNS, lines_of(key_of(job.identity), questions))
    write_json(
        job.output("metrics"),
        {
            **job.identity,
            "made_of": {**made_of(info), "scored_by": job.code},
            "status": info["status"],
            "diverged_step": info["diverged_step"],
            "metrics": metrics,
            "not_measured": not_measured,
        },
    )
