"""Step: which model of a run's path is the one of its front. Needs no model and no torch."""

from __future__ import annotations

from typing import Any

from pipeline_lib.core.files import read_jsonl, read_object, write_json
from pipeline_lib.metrics.judged import parts_before
from pipeline_lib.metrics.path import Path, Point
from pipeline_lib.metrics.study import Studied
from pipeline_lib.reporting.scores import utility_splits
from pipeline_lib.steps.job import Job
from pipeline_lib.steps.likelihood_scores import scores_of_records


def run(job: Job) -> None:
    """Write `matched`: the judged steps on either side of the least gap, by which the run is made again.

    Settings: `level`, the joint utility of likelihoods; `seeds` of the `originals`. Inputs: `steps`, the log
    of the run, and `run`, its run.json; `originals` and `retrained`, the records of these of every seed; the
    task's `manifest`.

    The content: `since` and `until`, judged steps with their utility ({step, utility}; 0 is `original`), the
    same one where the least gap is that of a judged model, and else those on either side of the level;
    `until` is None where there is no such model. `before`, what `original` has of each part that counts;
    `status` and `diverged_step`, those of the run that is made again where there is none: "blind" where no
    part counts, "diverged" where the run broke before, and else "unmatched" at its last step: no model of the
    path with that utility is nearer to `retrained` than `original`.
    """
    manifest = read_object(job.input("manifest"), "evaluate", "utility", "multiple_choice")
    originals, retrained = (
        [scores_of_records(path, manifest) for path in job.several(name)]
        for name in ("originals", "retrained")
    )
    own, level = originals[job.settings["seeds"].index(job.identity["seed"])], job.settings["level"]
    judged = [(row["step"], row["judged"]) for row in read_jsonl(job.input("steps")) if "judged" in row]
    study = Studied(own, retrained, own, originals, utility_splits(manifest), judged, level)
    before = parts_before(study)
    since, until = _sides(Path.of(study), level) if before else ({"step": 0, "utility": 1.0}, None)
    status, step = ("ok", None) if until else _lost(job, judged[-1][0] if before and judged else None, before)
    found = {"level": level, "since": since, "until": until, "before": before}
    write_json(job.output("matched"), {**found, "status": status, "diverged_step": step})


def _sides(path: Path, level: float) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """The judged points at which the least gap lies, or between which."""
    step = path.front(level).step
    since = max((point for point in path.points if point.step <= step), key=lambda point: point.step)
    until = min((point for point in path.points if point.step >= step), key=lambda point: point.step)
    return _named(since), _named(until) if until.step > 0 else None


def _named(point: Point) -> dict[str, Any]:
    return {"step": point.step, "utility": point.utility}


def _lost(job: Job, last: int | None, before: dict[str, float]) -> tuple[str, int]:
    """Why there is no such model, and at which step; `last`: judged."""
    if not before:
        return "blind", 0
    info = read_object(job.input("run"), "status", "diverged_step")
    return ("unmatched", last or 0) if info["status"] == "ok" else (info["status"], info["diverged_step"])
