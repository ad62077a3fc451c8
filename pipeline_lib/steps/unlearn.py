"""Step: one unlearning run, from the original model's folder to the unlearned one's."""

from __future__ import annotations

from dataclasses import replace

from pipeline_lib.core.files import read_object
from pipeline_lib.steps.common import save_run
from pipeline_lib.steps.job import Job
from pipeline_lib.steps.unlearning import remove_checkpoints, unlearn_model


def run(job: Job) -> None:
    """Unlearn the forget split from the model `parent`.

    Settings: see `unlearn_model`; where the row was tuned, the input `chosen` holds the tuned ones. A run
    that diverges leaves a model folder with run.json alone, so that the rest of the study goes on.
    """
    chosen = None if job.optional("chosen") is None else read_object(job.input("chosen"))
    if chosen is not None:
        found = {part: {**job.settings[part], **chosen[part]} for part in ("objective", "optimizer")}
        job = replace(job, settings={**job.settings, **found})
    done = unlearn_model(job)
    if not done.writes:
        return
    # run.json says how the settings were found; what each trial gave stays in chosen.json.
    tuned = None if chosen is None else {k: v for k, v in chosen.items() if k != "trials"}
    save_run(
        job,
        (done.model, done.tokenizer, done.prompt_format),
        {**done.facts, "tuned": tuned},
        done.outcome.log,
    )
    remove_checkpoints(job.workplace)
