"""Step: the pretrained model before any fine-tuning, as the row `base`. Its weights are not copied."""

from __future__ import annotations

import os
import time

from pydantic import TypeAdapter

from pipeline_lib.models.folder import load_pretrained
from pipeline_lib.models.prompt import PromptFormat
from pipeline_lib.models.prompt_check import check_prompt
from pipeline_lib.models.settings import ModelSettings
from pipeline_lib.stages.base import Made
from pipeline_lib.steps.common import run_facts, save_run, start
from pipeline_lib.steps.job import Job


def run(job: Job) -> None:
    """Write the folder `model`, which says where the weights lie and has none, and `run` with an empty log.

    Settings: `model`, and `inputs`, the identity of a model of this machine (study/contents_read.py). Input
    `base`: the folder of a model that the study pretrained itself, where this is one.
    """
    given, inputs, base = job.settings["model"], job.settings["inputs"], job.optional("base")
    settings: ModelSettings = TypeAdapter(ModelSettings).validate_python(given)
    started, place = time.monotonic(), start(job.device, job.threads)
    model, tokenizer, origin = load_pretrained(settings, base)
    prompt_format = PromptFormat(**dict(settings.prompt))
    check_prompt(tokenizer, prompt_format, rows=model.get_input_embeddings().num_embeddings)
    where = (
        {name: given[name] for name in ("source", "id", "revision", "path") if name in given}
        if base is None
        else {"base": os.path.relpath(base, job.output("model"))}
    )
    facts = run_facts(
        job.identity,
        Made(),
        place,
        started,
        objective={"kind": "none"},
        optimizer_settings={"kind": "none"},
        training={},
        model_settings=given,
        origin=origin,
        weights_in=where,
        inputs=inputs,
        parameters=sum(p.numel() for p in model.parameters()),
        trained_parameters=0,
        data={},
        parent=None,
        processes=1,
        code=job.code,
    )
    save_run(job, (model, tokenizer, prompt_format), facts, [])
