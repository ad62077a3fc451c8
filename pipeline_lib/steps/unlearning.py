"""From the original model to the unlearned one, in memory: what the unlearning and the tuning steps share."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from pipeline_lib.curvature import ESTIMATORS
from pipeline_lib.data.batching import Example, collate, token_budget_batches
from pipeline_lib.data.encoding import encode
from pipeline_lib.data.records import Record
from pipeline_lib.data.task_folder import load_splits
from pipeline_lib.errors import UserError
from pipeline_lib.files import read_json
from pipeline_lib.models.folder import load_model_folder
from pipeline_lib.models.forward import summed_nll
from pipeline_lib.models.prompt import PromptFormat
from pipeline_lib.objectives import Objective, make_objective
from pipeline_lib.optimizers import make_optimizer
from pipeline_lib.provenance import source_hash
from pipeline_lib.steps.common import (
    data_hashes,
    encode_records,
    fingerprint,
    place_for_training,
    run_facts,
    start,
)
from pipeline_lib.training.loop import Outcome, TrainingData, TrainingSettings, train
from pipeline_lib.training.one_shot import one_shot
from pipeline_lib.training.refresh import Curvature


@dataclass(frozen=True)
class Unlearned:
    """A finished run: the model with what it takes to save or score it, and the content of run.json."""

    model: Any
    tokenizer: Any
    prompt_format: PromptFormat
    outcome: Outcome
    facts: dict[str, Any]
    place: torch.device


def unlearn_model(
    identity: dict[str, Any],
    objective: dict[str, Any],
    optimizer: dict[str, Any],
    unlearn: dict[str, Any],
    max_length: int,
    device: str,
    threads: int,
    data_dir: Path,
    parent_dir: Path,
    checkpoint_dir: Path,
) -> Unlearned:
    """Unlearn the forget split from the model in `parent_dir`.

    `objective`, `optimizer`, `unlearn`: resolved settings, with `kind` in the first two. The
    checkpoint stays; delete it once the result is stored.
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
    if unlearn["weights"] != "fp32":
        model.to(torch.bfloat16)
    # A checkpoint of other settings or other code is not continued.
    depends_on = (identity, objective, optimizer, unlearn, max_length, hashes, parent["weights_sha256"])
    mark = fingerprint(*depends_on, source_hash(__name__))
    outcome = _run(model, loss, data, optimizer, unlearn, identity["seed"], checkpoint_dir, mark)
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
    return Unlearned(model, tokenizer, prompt_format, outcome, facts, place)


def _objective(settings: dict[str, Any], parent_dir: Path, place: torch.device) -> Objective:
    settings = dict(settings)
    loss = make_objective(settings.pop("kind"), **settings)
    if loss.needs_reference_model:
        reference = place_for_training(load_model_folder(parent_dir)[0], place).eval().requires_grad_(False)
        loss = replace(loss, reference_model=reference)  # type: ignore[type-var]
    return loss


def _run(
    model: torch.nn.Module,
    loss: Objective,
    data: TrainingData,
    optimizer: dict[str, Any],
    unlearn: dict[str, Any],
    seed: int,
    checkpoint_dir: Path,
    mark: str,
) -> Outcome:
    """Train with the optimiser, or take the one step of influence unlearning."""
    schedule = dict(unlearn)
    weights = schedule.pop("weights")
    settings = dict(optimizer)
    if settings["kind"] == "influence":
        del settings["kind"]
        return one_shot(model, loss, data, schedule["batch_size"], schedule["compute"], seed, settings)
    curvature = None
    if "estimator" in settings:
        curvature = Curvature(
            ESTIMATORS[settings.pop("estimator")],
            settings.pop("update_every"),
            settings.pop("drift_target"),
            settings.pop("curvature_data"),
        )
    stepper = make_optimizer(model=model, stochastic_rounding=weights == "bf16_stochastic", **settings)
    return train(
        model, loss, stepper, data, TrainingSettings(**schedule), seed, curvature, checkpoint_dir, mark
    )


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
