"""Step: make the `original` model (all data) or the `retrained` one (without the forget set)."""

from __future__ import annotations

import time
from typing import Any

from pydantic import TypeAdapter

from pipeline_lib.core.errors import UserError
from pipeline_lib.core.files import read_object
from pipeline_lib.data.records import Record
from pipeline_lib.data.task_folder import load_splits
from pipeline_lib.distributed.group import current
from pipeline_lib.models.folder import load_pretrained
from pipeline_lib.models.prompt import PromptFormat
from pipeline_lib.models.prompt_check import check_prompt
from pipeline_lib.models.reduced import reduce_model
from pipeline_lib.models.released_encoding import encode_answers
from pipeline_lib.models.scratch import build_scratch, texts_of
from pipeline_lib.models.settings import ModelSettings
from pipeline_lib.optimizers.adamw import AdamW
from pipeline_lib.steps.common import (
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
from pipeline_lib.training.batches import MiniBatches
from pipeline_lib.training.checkpoint import Kept
from pipeline_lib.training.compute import with_compute
from pipeline_lib.training.data import TrainingData
from pipeline_lib.training.fine_tuning import fine_tuned
from pipeline_lib.training.loop import Outcome
from pipeline_lib.training.settings import FineTune

_ROLES = {"original": "target", "retrained": "retrained"}  # method -> key of manifest["finetune"]


def run(job: Job) -> None:
    """Train on the splits that the manifest names for the method ("original" or "retrained").

    Where it names none, the model is written as it was loaded. Settings: `model`, `finetune`, and `inputs`,
    the identity of a base model of this machine (study/contents_read.py). Input `base`: the folder of a model
    that the study pretrained itself, where it is to start from one. Outputs: the folder `model`, and `run`
    with steps.jsonl beside it. Fine-tuning that diverges is an error: no study can build on such a model.
    """
    identity, seed = job.identity, job.identity["seed"]
    given, inputs = job.settings["model"], job.settings["inputs"]
    settings: ModelSettings = TypeAdapter(ModelSettings).validate_python(given)
    finetune = FineTune.model_validate(job.settings["finetune"])
    started, group = time.monotonic(), current()
    place = start(job.device, job.threads)
    finetune = with_compute(finetune, place, group)
    manifest = read_object(job.data / "manifest.json")
    names = manifest["finetune"][_ROLES[identity["method"]]]
    splits = load_splits(
        job.data, sorted({*names, *manifest["finetune"]["target"], *manifest["likelihood_only"]})
    )
    records = [record for name in names for record in splits[name]]
    model, tokenizer, origin = _source(job, settings, manifest, splits, bool(records))
    prompt_format = PromptFormat(**dict(settings.prompt))
    check_prompt(tokenizer, prompt_format, rows=model.get_input_embeddings().num_embeddings)
    on_device(model, place)
    stepper = AdamW(kind="adamw", learning_rate=finetune.learning_rate, weight_decay=finetune.weight_decay)
    hashes = data_hashes(job.data)
    outcome, learning = Outcome([], "ok", None, 0, 0.0), 0
    if records:
        mark = fingerprint(identity, given, finetune.model_dump(), hashes, origin, inputs, job.code)
        examples = encode_answers(
            finetune.encoding,
            records,
            tokenizer,
            prompt_format,
            settings.max_length,
            learn=True,
        )
        data = TrainingData(forget=[], retain=examples, pad_id=tokenizer.pad_token_id)
        course = MiniBatches(data, finetune, seed)
        outcome, learning = fine_tuned(model, stepper, finetune, course, Kept(job.workplace, mark), group)
    if outcome.status != "ok":
        raise UserError(
            f"fine-tuning {identity['model']} on {identity['task']} (seed {seed}) diverged at step "
            f"{outcome.diverged_step}: lower finetune.learning_rate ({finetune.learning_rate})"
        )
    reduced = reduce_model(model, settings.base)
    facts = run_facts(
        identity,
        outcome,
        place,
        started,
        objective={"kind": "FineTuning"},
        optimizer_settings=stepper.model_dump(),
        training=finetune.model_dump(exclude={"learning_rate", "weight_decay"}),
        auto=became(job.settings["finetune"], finetune.model_dump()) if records else None,
        model_settings=given,
        origin=origin,
        inputs=inputs,
        parameters=sum(p.numel() for p in model.parameters()),
        trained_parameters=learning,
        **reduced,
        data={name: hashes[name] for name in names},
        parent=None,
        processes=group.size,
        code=job.code,
    )
    if not group.writes:
        return
    save_run(job, (model, tokenizer, prompt_format), facts, outcome.log)
    remove_work(job.workplace)


def _source(
    job: Job,
    settings: ModelSettings,
    manifest: dict[str, Any],
    splits: dict[str, list[Record]],
    taught: bool,
) -> tuple[Any, Any, dict[str, Any]]:
    """The model before fine-tuning, its tokenizer, and where they come from; `taught`: it will be trained."""
    base = job.optional("base")
    if settings.source != "scratch" or base is not None:
        return load_pretrained(settings, base)
    if not taught:
        raise UserError(
            f"{job.identity['task']} takes the model as it is, without fine-tuning, but "
            f"{job.identity['model']} is made from scratch and knows nothing yet; use a pretrained model, or "
            "let the task teach it"
        )
    texts = texts_of(splits, manifest["finetune"], next(iter(manifest["likelihood_only"]), None))
    return *build_scratch(settings, texts, job.identity["seed"]), {"kind": "scratch"}
