"""Step: one stage, from one model folder or several to a new one."""

from __future__ import annotations

import time
from importlib import import_module
from typing import Any

from pipeline_lib.core.files import read_object
from pipeline_lib.core.runs import LOST, key_of
from pipeline_lib.distributed.group import current
from pipeline_lib.models.folder import load_model_folder
from pipeline_lib.stages.base import STAGES, Loaded, Made, Work, name_of
from pipeline_lib.steps.common import (
    TRAJECTORY,
    became,
    data_hashes,
    fingerprint,
    on_device,
    remove_work,
    run_facts,
    save_run,
    start,
)
from pipeline_lib.steps.job import Job


def run(job: Job) -> None:
    """Make the model of the setting `stage` from the folders `parents`; `max_length`: tokens of an example.

    With the setting `trajectory` it is judged on its way, on the task of the input `own`: the model's own,
    whose data the stage need not learn.
    A parent that was lost has no weights, so what would be made of it is lost in the same way, at the same
    step.
    """
    started, group, place = time.monotonic(), current(), start(job.device, job.threads)
    stage = STAGES.parse(job.settings["stage"]).on(place, group)
    folders = job.several("parents")
    parents = [read_object(folder / "run.json", "status", "weights_sha256") for folder in folders]
    of = [name_of(key_of(parent).row) for parent in parents]
    hashes = data_hashes(job.data)
    saved: tuple[Any, Any, Any] = None, None, None  # model, tokenizer and prompt format
    lost = next((parent for parent in parents if parent["status"] in LOST), None)
    if lost is not None:
        made = Made(status=lost["status"], diverged_step=lost["diverged_step"])
    else:
        model, tokenizer, prompt_format, info = load_model_folder(folders[0])
        saved = model, tokenizer, prompt_format
        first = Loaded(on_device(model, place), tokenizer, prompt_format, info)
        weights = [parent["weights_sha256"] for parent in parents]
        length, judge, asked = job.settings["max_length"], None, []
        if "trajectory" in job.settings:
            own = job.input("own").parent
            judge = import_module(TRAJECTORY).Judging(job.settings, own, model, tokenizer, prompt_format).of
            asked = [job.settings["trajectory"], data_hashes(own)]
        mark = fingerprint(job.identity, (stage.settings(), length), hashes, weights, job.code, asked)
        seed = job.identity["seed"]
        made = stage.make(Work(first, folders[1:], job.data, seed, length, job.workplace, mark, judge))
    facts = run_facts(
        job.identity,
        made,
        place,
        started,
        stage={**stage.settings(), "of": of},
        changed=made.changed,
        objective={"kind": "none"},
        optimizer_settings={"kind": "none"},
        training={},
        auto=became(job.settings["stage"], stage.settings()) if made.steps else None,
        origin=parents[0]["origin"],
        inputs=parents[0].get("inputs"),
        parameters=parents[0]["parameters"],
        trained_parameters=made.trained_parameters,
        processes=group.size,
        data={f"{job.data.name}.{name}": hashes[name] for name in made.read},
        parents={
            "/".join(folder.parts[-5:]): parent["weights_sha256"]
            for folder, parent in zip(folders, parents, strict=True)
        },
        code=job.code,
    )
    if not group.writes:
        return
    save_run(job, saved, facts, made.log)
    remove_work(job.workplace)
