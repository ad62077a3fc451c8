"""Step: where the path of a run crosses the utility of comparison. Needs no model and no torch."""

from __future__ import annotations

from typing import Any

from pipeline_lib.core.files import read_jsonl, read_object, write_json
from pipeline_lib.metrics.path import crossing, parts_before, utility_of
from pipeline_lib.metrics.study import Studied
from pipeline_lib.reporting.scores import utility_splits
from pipeline_lib.steps.job import Job
from pipeline_lib.steps.likelihood_scores import scores_of_records


def run(job: Job) -> None:
    """Write `matched`: the judged steps on either side of the crossing, by which the run is made again.

    Settings: `level`, the joint utility of likelihoods; `seeds` of the `originals`. Inputs: `steps`, the log
    of the run, and `run`, its run.json; `originals`, the records of `original` of every seed; the task's
    `manifest`.

    The content: `above`, the last step at or above the level ({step, utility}; 0 is `original`); `below`, the
    next judged step, None where the path never falls below; `before`, what `original` has of each part that
    counts;
    `status` and `diverged_step`, those of the run that is made again where nothing is below: "blind" where no
    part counts, "diverged" where the run broke before it fell below, and else "unmatched" at its last step.
    """
    manifest = read_object(job.input("manifest"), "evaluate", "utility", "multiple_choice")
    originals = [scores_of_records(path, manifest) for path in job.several("originals")]
    own = originals[job.settings["seeds"].index(job.identity["seed"])]
    level, before = (
        job.settings["level"],
        parts_before(Studied(own, [], own, originals, utility_splits(manifest))),
    )
    steps = [row for row in read_jsonl(job.input("steps")) if "judged" in row] if before else []
    path: list[dict[str, Any]] = [{"step": 0, "utility": 1.0}]
    path += [{"step": row["step"], "utility": utility_of(row["judged"], before)} for row in steps]
    at = crossing([point["utility"] for point in path], level)
    above, below = (path[-1], None) if at is None else path[at : at + 2]
    status, step = ("ok", None) if below else _lost(job, path[-1]["step"] if before else None)
    found = {"level": level, "above": above, "below": below, "before": before}
    write_json(job.output("matched"), {**found, "status": status, "diverged_step": step})


def _lost(job: Job, last: int | None) -> tuple[str, int]:
    """Why there is no model at the level, and at which step; `last`: judged, None where no part counts."""
    if last is None:
        return "blind", 0
    info = read_object(job.input("run"), "status", "diverged_step")
    return ("unmatched", last) if info["status"] == "ok" else (info["status"], info["diverged_step"])
