"""From the original model to the unlearned one, in memory: what the unlearning and the tuning steps share."""

from __future__ import annotations

import shutil
import sys
import time
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from pipeline_lib.curvature import ESTIMATORS
from pipeline_lib.data.task_folder import load_splits
from pipeline_lib.distributed.group import ALONE, Group, current
from pipeline_lib.distributed.refusal import refusal
from pipeline_lib.distributed.sharding import in_parts, shard_reference
from pipeline_lib.errors import UserError
from pipeline_lib.files import remove_leftovers
from pipeline_lib.models import adapters
from pipeline_lib.models.folder import load_model_folder
from pipeline_lib.models.prompt import PromptFormat
from pipeline_lib.models.prompt_check import check_prompt
from pipeline_lib.models.recompute import activations_again
from pipeline_lib.models.reduced import base_facts, hold_reduced
from pipeline_lib.objectives import Objective, make_objective
from pipeline_lib.objectives.in_context import InContext
from pipeline_lib.objectives.rmu import RMU
from pipeline_lib.objectives.whp import WHP
from pipeline_lib.optimizers import make_optimizer
from pipeline_lib.provenance import source_hash
from pipeline_lib.steps.common import (
    data_hashes,
    fingerprint,
    place_for_training,
    run_facts,
    start,
    training_settings,
)
from pipeline_lib.steps.objective_data import objective_data, with_reference_nll
from pipeline_lib.training.data import TrainingData
from pipeline_lib.training.generic_labels import generic_labels
from pipeline_lib.training.loop import Outcome, TrainingSettings, train
from pipeline_lib.training.one_shot import one_shot
from pipeline_lib.training.refresh import Curvature
from pipeline_lib.training.sampling import derived_seed

CODE = source_hash(__name__)  # of what runs: the checkout may move on before the job ends


@dataclass(frozen=True)
class Unlearned:
    """A finished run: the model with what it takes to save or score it, and the content of run.json."""

    model: Any
    tokenizer: Any
    prompt_format: PromptFormat
    outcome: Outcome
    facts: dict[str, Any]
    place: torch.device
    writes: bool  # False in all processes of a job but the first, which leaves the results


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

    `objective`, `optimizer`, `unlearn`: resolved settings, with `kind` in the first two; the optimiser of
    a method that takes no step is {"kind": "none"}. `unlearn["prompt"]`: the format of this run's prompts and
    of the unlearned model's, where it is another than the parent's. With `unlearn["lora"]` adapters are
    trained, and merged into the weights at the end. The checkpoint stays; delete it with `remove_checkpoints`
    once the result is stored. In a job of several processes each calls this, and each has the result.
    """
    started = time.monotonic()
    group = current()
    why_not = refusal(objective["kind"], optimizer["kind"], optimizer.get("estimator"))
    if group.shards and why_not:
        raise UserError(why_not)
    place = start(device, threads)
    model, tokenizer, prompt_format, parent = load_model_folder(parent_dir)
    if unlearn.get("prompt"):
        prompt_format = PromptFormat.from_dict(unlearn["prompt"])
    base = parent.get("base")
    hold_reduced(model, base, unlearn, optimizer["kind"])  # before it goes to a GPU: 8 bits are smaller
    place_for_training(model, place)
    hashes = data_hashes(data_dir)
    loss = make_objective(**objective)
    if (optimizer["kind"] == "none") != isinstance(loss, InContext):
        raise UserError(
            f"{identity['method']} with the optimizer {identity['optimizer']}: in-context unlearning goes "
            "with the optimizer none, which takes no step, and no other method does"
        )
    if isinstance(loss, InContext):
        prompt_format = replace(prompt_format, instruction=loss.instruction)
        check_prompt(tokenizer, prompt_format)  # not every chat template knows a system message
        outcome, learning = Outcome([], "ok", None, 0, 0.0), 0
    else:
        # A checkpoint of other settings or other code is not continued.
        depends_on = (identity, objective, optimizer, unlearn, max_length, hashes, parent["weights_sha256"])
        mark = fingerprint(*depends_on, CODE)
        splits = load_splits(data_dir, ["forget", "retain"])
        data = objective_data(
            loss,
            splits,
            data_dir,
            tokenizer,
            prompt_format,
            max_length,
            identity["seed"],
            unlearn.get("encoding", "exact"),
        )
        with activations_again(model, unlearn.get("checkpointing", False)):
            outcome, learning = _trained(
                model,
                loss,
                data,
                optimizer,
                unlearn,
                identity["seed"],
                parent_dir,
                checkpoint_dir,
                mark,
                group,
            )
    facts = run_facts(
        identity,
        outcome,
        place,
        started,
        objective=objective,
        optimizer_settings=optimizer,
        training=unlearn,
        **base_facts(model, base),
        origin=parent["origin"],
        inputs=parent.get("inputs"),
        parameters=parent["parameters"],
        trained_parameters=learning,
        processes=group.size,
        data={name: hashes[name] for name in ("forget", "retain")},
        parent=parent["weights_sha256"],
        code=CODE,
    )
    return Unlearned(model, tokenizer, prompt_format, outcome, facts, place, group.writes)


def remove_checkpoints(checkpoint_dir: Path) -> None:
    """Delete what a run kept to be continued."""
    for folder in (checkpoint_dir, _first_phase(checkpoint_dir)):
        shutil.rmtree(folder, ignore_errors=True)
        remove_leftovers(folder)


def _first_phase(checkpoint_dir: Path) -> Path:
    return checkpoint_dir.with_name(f"{checkpoint_dir.name}-labels")


def _trained(
    model: Any,
    loss: Objective,
    data: TrainingData,
    optimizer: dict[str, Any],
    unlearn: dict[str, Any],
    seed: int,
    parent_dir: Path,
    checkpoint_dir: Path,
    mark: str,
    group: Group,
) -> tuple[Outcome, int]:
    """Unlearn, in place; the outcome, and how many parameters were trained.

    The model comes out plain: without adapters, nothing frozen.
    """
    settings, lora = training_settings(unlearn), unlearn["lora"]
    if loss.needs_reference_nll:
        data = with_reference_nll(model, data, settings, optimizer["kind"] == "influence", seed)
    before = 0.0
    if isinstance(loss, WHP):
        folder = _first_phase(checkpoint_dir)
        labels, first = generic_labels(
            model, loss, data.forget, data.pad_id, settings, lora, seed, folder, mark, group
        )
        if first.status != "ok":
            if group.writes:
                print(f"the reinforced model diverged at step {first.diverged_step}", file=sys.stderr)
            return replace(first, steps=0), 0
        before, data = first.train_time_s, replace(data, forget_labels=labels)
    names = loss.trainable(model)
    if lora:
        adapters.attach(model, **lora, seed=derived_seed(seed, "adapters"), trained=names)
    elif names is not None:
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name in set(names))
    if unlearn["weights"] != "fp32":
        model.to(torch.bfloat16)
    learning = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    weights, offload = unlearn["weights"], unlearn.get("offload", False)
    with in_parts(model, group) as (working, together):
        if loss.needs_reference_model:
            reference = _reference(working, loss, bool(lora), parent_dir, together)
            loss = replace(loss, reference_model=reference)  # type: ignore[type-var]
        outcome = _run(
            working, loss, data, optimizer, settings, weights, offload, seed, checkpoint_dir, mark, together
        )
    outcome = replace(outcome, train_time_s=before + outcome.train_time_s)
    if lora:
        adapters.detach(model.float(), merge=True)
    model.requires_grad_(True)
    if loss.needs_original_weights and outcome.status == "ok":
        original = load_model_folder(parent_dir)[0]
        loss.finish(model.float(), dict(original.named_parameters()))
    return outcome, learning


def _reference(model: Any, loss: Objective, lora: bool, parent_dir: Path, group: Group = ALONE) -> Any:
    """What gives the model before unlearning: this one without its adapters, or a frozen second one.

    It is rounded as the trained model is (`unlearn.weights`), so that the two begin as one function: else a
    divergence from it would first of all train the rounding away.
    """
    if lora:
        return partial(adapters.adapters_off, model)
    first = next(model.parameters())
    reference = load_model_folder(parent_dir)[0]
    if isinstance(loss, RMU) and loss.retain_loss_type == "EMBED_DIFF":  # it reads no layer above
        for module in reference.get_decoder().children():
            if isinstance(module, torch.nn.ModuleList):
                del module[loss.layer + 1 :]
    reference = place_for_training(reference.to(first.dtype), first.device).eval().requires_grad_(False)
    return partial(nullcontext, shard_reference(reference, group))


def _run(
    model: torch.nn.Module,
    loss: Objective,
    data: TrainingData,
    optimizer: dict[str, Any],
    schedule: TrainingSettings,
    weights: str,
    offload: bool,
    seed: int,
    checkpoint_dir: Path,
    mark: str,
    group: Group,
) -> Outcome:
    """Train with the optimiser, or take the one step of influence unlearning."""
    settings = dict(optimizer)
    if settings["kind"] == "influence":
        del settings["kind"]
        return one_shot(model, loss, data, schedule.batch_size, schedule.compute, seed, settings, group)
    curvature = None
    if "estimator" in settings:
        curvature = Curvature(
            ESTIMATORS[settings.pop("estimator")],
            settings.pop("update_every"),
            settings.pop("drift_target"),
            settings.pop("curvature_data"),
            settings.pop("curvature_examples"),
        )
    rounding = weights == "bf16_stochastic"
    stepper = make_optimizer(
        model=model, stochastic_rounding=rounding, offload=offload, group=group, **settings
    )
    return train(model, loss, stepper, data, schedule, seed, curvature, checkpoint_dir, mark, group)
