"""Step: one unlearning run, from the original model to the unlearned one."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from pipeline_lib.data.batching import Example, collate, encode, token_budget_batches
from pipeline_lib.data.prepare import load_splits
from pipeline_lib.data.records import Record
from pipeline_lib.errors import UserError
from pipeline_lib.files import read_json
from pipeline_lib.models.folder import load_model_folder, save_model_folder
from pipeline_lib.models.forward import summed_nll
from pipeline_lib.objectives import Objective, make_objective
from pipeline_lib.optimizers import make_optimizer
from pipeline_lib.optimizers.curvature import gauss_newton_bartlett
from pipeline_lib.provenance import source_hash
from pipeline_lib.steps.common import (
    data_hashes,
    encode_records,
    fingerprint,
    place_for_training,
    run_facts,
    start,
    write_training_folder,
)
from pipeline_lib.training.loop import Curvature, TrainingData, TrainingSettings, train


def run(
    identity: dict[str, Any],
    objective: dict[str, Any],
    optimizer: dict[str, Any],
    unlearn: dict[str, Any],
    max_length: int,
    device: str,
    threads: int,
    data_dir: Path,
    parent_dir: Path,
    model_dir: Path,
    training_dir: Path,
    checkpoint_dir: Path,
) -> None:
    """Unlearn the forget split from the model in `parent_dir`.

    `objective`, `optimizer`, `unlearn`: resolved settings, with `kind` in the first two. A run that
    diverges leaves a model folder with run.json alone, so that the rest of the study goes on.
    """
    started = time.monotonic()
    place = start(device, threads)
    model, tokenizer, prompt_format, parent = load_model_folder(parent_dir)
    place_for_training(model, place)
    splits = load_splits(data_dir, ["forget", "retain"])
    hashes = data_hashes(data_dir)
    loss = _objective(objective, parent_dir, place)
    data = TrainingData(
        forget=encode_records(splits["forget"], tokenizer, prompt_format, max_length),
        retain=encode_records(splits["retain"], tokenizer, prompt_format, max_length),
        pad_id=tokenizer.pad_token_id,
    )
    if loss.forget_answers == "refusal":
        refusals = read_json(data_dir / "refusals.json")
        pairs = partial(encode, tokenizer=tokenizer, prompt_format=prompt_format, max_length=max_length)
        data = replace(data, forget_alternatives=_alternatives(splits["forget"], refusals, pairs))
    if loss.needs_reference_nll:
        data = replace(data, reference_nll=_reference_nll(model, data.forget, data.pad_id, place))
    stepper, curvature = _optimizer(optimizer, model)
    outcome = train(
        model,
        loss,
        stepper,
        data,
        TrainingSettings(**unlearn),
        identity["seed"],
        curvature,
        checkpoint_dir,
        fingerprint(
            identity,
            objective,
            optimizer,
            unlearn,
            max_length,
            hashes,
            parent["weights_sha256"],
            source_hash(__name__),  # a checkpoint of other code is not continued
        ),
    )
    facts = run_facts(
        identity,
        outcome,
        place,
        started,
        objective=objective,
        optimizer_settings=optimizer,
        training=unlearn,
        origin=parent["origin"],
        parameters=parent["parameters"],
        data={name: hashes[name] for name in ("forget", "retain")},
        parent=parent["weights_sha256"],
    )
    facts = save_model_folder(model_dir, model, tokenizer, prompt_format, facts)
    write_training_folder(training_dir, facts, outcome.log)
    shutil.rmtree(checkpoint_dir, ignore_errors=True)


def _objective(settings: dict[str, Any], parent_dir: Path, place: torch.device) -> Objective:
    settings = dict(settings)
    loss = make_objective(settings.pop("kind"), **settings)
    if loss.needs_reference_model:
        reference = place_for_training(load_model_folder(parent_dir)[0], place).eval().requires_grad_(False)
        loss = replace(loss, reference_model=reference)  # type: ignore[type-var]
    return loss


def _optimizer(
    settings: dict[str, Any], model: torch.nn.Module
) -> tuple[torch.optim.Optimizer, Curvature | None]:
    settings = dict(settings)
    every, on = settings.pop("update_every", None), settings.pop("curvature_data", None)
    stepper = make_optimizer(model=model, **settings)
    return stepper, None if every is None else Curvature(gauss_newton_bartlett, every, on)


def _alternatives(
    records: Sequence[Record], refusals: Sequence[str], pairs: Callable[..., list[Example]]
) -> list[list[Example]]:
    """For each forget record, its prompt with every refusal."""
    if not refusals:
        raise UserError("this objective learns refusals, but the task has none (refusals.json is empty)")
    return [
        [replace(example, index=row) for example in pairs([record.prompt] * len(refusals), refusals)]
        for row, record in enumerate(records)
    ]


@torch.no_grad()
def _reference_nll(model: Any, examples: Sequence[Example], pad_id: int, place: torch.device) -> torch.Tensor:
    """Summed NLL of each forget answer under the model before unlearning, in fp32, (len(examples),)."""
    model.eval()
    values = torch.empty(len(examples))
    for group in token_budget_batches(examples, 2048):
        batch = collate(group, pad_id).to(place)
        values[batch.index.cpu()] = summed_nll(model, batch).float().cpu()
    return values
