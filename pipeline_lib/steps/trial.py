"""Step: one tuning trial, an unlearning run whose model is scored in memory and not kept."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from pipeline_lib.core.files import read_object, write_json
from pipeline_lib.core.ranges import placed
from pipeline_lib.data.records import Record
from pipeline_lib.data.task_folder import load_splits
from pipeline_lib.distributed.group import current
from pipeline_lib.engine.likelihoods import LikelihoodReader, NotFiniteError, answers_only
from pipeline_lib.engine.rows import Row
from pipeline_lib.engine.settings import ScoringSettings
from pipeline_lib.steps.job import Job
from pipeline_lib.steps.likelihood_scores import asked_splits, likelihood_lines
from pipeline_lib.steps.selection import SKIPPED
from pipeline_lib.steps.unlearning import Unlearned, remove_checkpoints, unlearn_model


def run(job: Job) -> None:
    """Unlearn as the unlearning step would on this seed, and write the likelihoods that the choice needs.

    The identity has the tuning seed and the number of the `trial`. Settings: those of `unlearn_model`;
    `tuned`, the settings in which the trials differ, by part of a run ("optimizer", "objective");
    `evaluation`: `max_records` and `max_tokens_per_batch`. `questions` are the scores of the forget set and
    of every utility split, question by question. With `trajectory` (steps/trajectory.py) the trial is judged
    on its way: `judged`. A trial that diverges is a result like any other.

    A trial of a later round has `places` in place of `tuned`, part of a run -> setting -> place in the range
    that the input `ranges` has for this `row`. Of a round that is skipped it says just that.
    """
    found = None if job.optional("ranges") is None else read_object(job.input("ranges"), "skipped", "ranges")
    if found is not None and found["skipped"]:
        if current().writes:
            write_json(job.output("trial"), {**job.identity, "status": SKIPPED})
        return
    if found is not None:
        job = _placed(job, found["ranges"][job.settings["row"]])
    done = unlearn_model(job)
    if not done.writes:
        return
    outcome, manifest = done.outcome, read_object(job.input("manifest"), "evaluate", "utility")
    settings = ScoringSettings(**job.settings["evaluation"], max_length=job.settings["max_length"])
    asked = {
        split: settings.records_of(split, records)
        for split, records in load_splits(job.data, asked_splits(manifest)).items()
    }
    rows = _rows(done, asked, settings, manifest["multiple_choice"]) if outcome.status == "ok" else None
    judged = [_judged(row) for row in outcome.log if "judged" in row]
    shares = [row["clipped_share"] for row in outcome.log if row["clipped_share"] is not None]
    result = {
        **job.identity,
        "tuned": job.settings["tuned"],
        "settings": {
            "objective": job.settings["objective"],
            "optimizer": job.settings["optimizer"],
            "training": done.facts["training"],
        },
        "status": "diverged" if rows is None else "ok",
        # Weights that give no number after the last step are lost with that step.
        "diverged_step": (outcome.diverged_step or outcome.steps) if rows is None else None,
        "data": done.facts["data"],
        "records": {split: len(records) for split, records in asked.items()},
        "steps": outcome.steps,
        "train_time_s": outcome.train_time_s,
        "clipped_share": sum(shares) / len(shares) if shares else None,
        "peak_memory_mb": done.facts["peak_memory_mb"],
        "git_commit": done.facts["git_commit"],
        "questions": None if rows is None else likelihood_lines(rows, manifest),
        **(
            {"judged": judged} if (judged := [_judged(row) for row in outcome.log if "judged" in row]) else {}
        ),
    }
    write_json(job.output("trial"), result)
    remove_checkpoints(job.workplace)


def _judged(row: dict[str, Any]) -> dict[str, Any]:
    return {"step": row["step"], "judged": row["judged"]}


def _placed(job: Job, ranges: dict[str, dict[str, Any]]) -> Job:
    """The job with the values at its places in these ranges."""
    tuned = {
        part: {name: placed(u, ranges[part][name]) for name, u in of_part.items()}
        for part, of_part in job.settings["places"].items()
    }
    resolved = {part: {**job.settings[part], **values} for part, values in tuned.items()}
    return replace(job, settings={**job.settings, **resolved, "tuned": tuned})


def _rows(
    done: Unlearned, asked: dict[str, list[Record]], settings: ScoringSettings, with_options: list[str]
) -> list[Row] | None:
    """Likelihoods of every question; None if the model's weights give numbers that are not finite.

    Other texts than the true answer are read in the splits `with_options` alone, whose probabilities need
    them.
    """
    model: Any = done.model.float().eval()  # as the saved model would be evaluated
    rows: list[Row] = []
    for split, records in asked.items():
        read = answers_only(records, options=split in with_options)
        try:
            rows += LikelihoodReader(done.tokenizer, done.prompt_format, split, read, settings).rows(model)
        except NotFiniteError:
            return None
    return rows
