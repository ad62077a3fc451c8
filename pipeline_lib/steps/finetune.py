"""Step: make the `original` model (all data) or the `retrained` one (without the forget set)."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

import torch

from pipeline_lib.data.released_encoding import encode_answers
from pipeline_lib.data.task_folder import load_splits
from pipeline_lib.distributed.group import current
from pipeline_lib.distributed.sharding import in_parts
from pipeline_lib.errors import UserError
from pipeline_lib.files import read_object, remove_leftovers
from pipeline_lib.models import adapters
from pipeline_lib.models.folder import save_model_folder
from pipeline_lib.models.prompt import PromptFormat
from pipeline_lib.models.prompt_check import check_prompt
from pipeline_lib.models.recompute import activations_again
from pipeline_lib.models.reduced import reduce_model
from pipeline_lib.models.scratch import build_scratch, texts_of
from pipeline_lib.models.source import load_source
from pipeline_lib.objectives import FineTuning
from pipeline_lib.optimizers import make_optimizer
from pipeline_lib.provenance import source_hash
from pipeline_lib.steps.common import (
    data_hashes,
    fingerprint,
    place_for_training,
    run_facts,
    start,
    training_settings,
    write_training_folder,
)
from pipeline_lib.training.data import TrainingData
from pipeline_lib.training.loop import Outcome, train
from pipeline_lib.training.sampling import derived_seed

CODE = source_hash(__name__)  # of what runs: the checkout may move on before the job ends
_ROLES = {"original": "target", "retrained": "retrained"}  # method -> key of manifest["finetune"]


def run(
    identity: dict[str, Any],
    model_settings: dict[str, Any],
    finetune: dict[str, Any],
    device: str,
    threads: int,
    data_dir: Path,
    model_dir: Path,
    training_dir: Path,
    checkpoint_dir: Path,
    inputs: dict[str, str] | None = None,
) -> None:
    """Train on the splits that the manifest names for `identity["method"]` and write the model folder.

    Where it names none, the model is written as it was loaded. `identity`: suite, task, model, method
    ("original" or "retrained"), optimizer ("none"), seed. `inputs`: the identity of a base model of this
    machine (planning/identity.py).
    Fine-tuning that diverges is an error: no study can stand on such a model.
    """
    started = time.monotonic()
    group = current()
    place = start(device, threads)
    seed = identity["seed"]
    manifest = read_object(data_dir / "manifest.json")
    names = manifest["finetune"][_ROLES[identity["method"]]]
    readable = {*names, *manifest["finetune"]["target"], *manifest["likelihood_only"]}
    splits = load_splits(data_dir, sorted(readable))
    records = [record for name in names for record in splits[name]]

    if model_settings["source"] == "scratch":
        if not records:
            raise UserError(
                f"{identity['task']} takes the model as it is, without fine-tuning, but {identity['model']} "
                "is made from scratch and knows nothing yet; use a pretrained model, or let the task teach it"
            )
        holdout = next(iter(manifest["likelihood_only"]), None)
        texts = texts_of(splits, manifest["finetune"], holdout)
        model, tokenizer = build_scratch(model_settings, texts, seed)
        origin: dict[str, Any] = {"kind": "scratch"}
    else:
        model, tokenizer, origin = load_source(model_settings)
    prompt_format = _checked_format(model_settings["prompt"], tokenizer, model)
    place_for_training(model, place)
    optimizer_settings = {
        "kind": "adamw",
        "learning_rate": finetune["learning_rate"],
        "beta1": 0.9,
        "beta2": 0.999,
        "eps": 1e-8,
        "weight_decay": finetune["weight_decay"],
    }
    schedule = {k: v for k, v in finetune.items() if k not in ("learning_rate", "weight_decay")}
    hashes = data_hashes(data_dir)
    outcome, learning = Outcome([], "ok", None, 0, 0.0), 0
    if records:
        examples = encode_answers(
            finetune.get("encoding", "exact"),
            records,
            tokenizer,
            prompt_format,
            model_settings["max_length"],
            learn=True,
        )
        mark = fingerprint(identity, model_settings, finetune, hashes, origin, inputs, CODE)
        lora, weights = finetune.get("lora"), finetune.get("weights", "fp32")
        if lora:
            adapters.attach(model, **lora, seed=derived_seed(seed, "adapters"))
        if weights != "fp32":
            model.to(torch.bfloat16)
        again = activations_again(model, finetune.get("checkpointing", False))
        with again, in_parts(model, group) as (working, together):
            optimizer = make_optimizer(
                model=working,
                group=together,
                stochastic_rounding=weights == "bf16_stochastic",
                offload=finetune.get("offload", False),
                **optimizer_settings,
            )
            outcome = train(
                working,
                FineTuning(),
                optimizer,
                TrainingData(forget=[], retain=examples, pad_id=tokenizer.pad_token_id),
                training_settings(finetune),
                seed,
                None,
                checkpoint_dir,
                mark,
                together,
            )
        learning = sum(p.numel() for p in model.parameters() if p.requires_grad)
        if lora:
            adapters.detach(model.float(), merge=outcome.status == "ok")
    if outcome.status != "ok":
        raise UserError(
            f"fine-tuning {identity['model']} on {identity['task']} (seed {seed}) diverged at step "
            f"{outcome.diverged_step}: lower finetune.learning_rate ({finetune['learning_rate']})"
        )
    base = model_settings.get("base")
    reduced = reduce_model(model, base)
    facts = run_facts(
        identity,
        outcome,
        place,
        started,
        objective={"kind": "FineTuning"},
        optimizer_settings=optimizer_settings,
        training=schedule,
        model_settings=model_settings,
        origin=origin,
        inputs=inputs or {},
        parameters=sum(p.numel() for p in model.parameters()),
        trained_parameters=learning,
        **reduced,
        data={name: hashes[name] for name in names},
        parent=None,
        processes=group.size,
        code=CODE,
    )
    if not group.writes:
        return
    run_info = save_model_folder(model_dir, model, tokenizer, prompt_format, facts)
    write_training_folder(training_dir, run_info, outcome.log)
    shutil.rmtree(checkpoint_dir, ignore_errors=True)
    remove_leftovers(checkpoint_dir)


def _checked_format(settings: dict[str, Any], tokenizer, model) -> PromptFormat:
    prompt_format = PromptFormat.from_dict(settings)
    check_prompt(tokenizer, prompt_format, rows=model.get_input_embeddings().num_embeddings)
    return prompt_format
