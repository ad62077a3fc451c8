"""From the original model to the unlearned one, in memory: what the unlearning and the tuning steps share."""

from __future__ import annotations

import sys
import time
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from pipeline_lib.core.errors import UserError
from pipeline_lib.core.families import Method
from pipeline_lib.core.files import read_object
from pipeline_lib.data.task_folder import load_splits
from pipeline_lib.distributed.group import Group, current
from pipeline_lib.distributed.refusal import refusal
from pipeline_lib.distributed.sharding import in_parts, shard_reference
from pipeline_lib.models import adapters
from pipeline_lib.models.folder import load_model_folder
from pipeline_lib.models.prompt import PromptFormat
from pipeline_lib.models.prompt_check import check_prompt
from pipeline_lib.models.recompute import activations_again
from pipeline_lib.models.reduced import base_facts, hold_reduced
from pipeline_lib.objectives import OBJECTIVES, Objective
from pipeline_lib.objectives.base import GENERIC_LABELS
from pipeline_lib.optimizers import OPTIMIZERS, Optimizer
from pipeline_lib.steps.common import (
    TRAJECTORY,
    became,
    data_hashes,
    fingerprint,
    on_device,
    remove_work,
    run_facts,
    start,
)
from pipeline_lib.steps.job import Job
from pipeline_lib.steps.objective_data import Encoder, objective_data, with_reference_nll
from pipeline_lib.training.batches import MiniBatches, WholeSets
from pipeline_lib.training.checkpoint import Kept
from pipeline_lib.training.compute import with_compute
from pipeline_lib.training.data import TrainingData
from pipeline_lib.training.loop import Outcome, train
from pipeline_lib.training.make import make_update
from pipeline_lib.training.sampling import derived_seed
from pipeline_lib.training.settings import Unlearn


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


@dataclass(frozen=True)
class _Run:
    """What one unlearning run is made of; `optimizer`: None for a method that takes no step."""

    objective: Objective
    optimizer: Optimizer | None
    training: Unlearn
    seed: int
    parent: Path

    @classmethod
    def of(cls, job: Job) -> _Run:
        """The settings of the job, parsed once."""
        objective, optimizer = job.settings["objective"], job.settings["optimizer"]
        return cls(
            OBJECTIVES.parse(objective),
            None if optimizer["kind"] == "none" else OPTIMIZERS.parse(optimizer).seeded(job.identity["seed"]),
            Unlearn.model_validate(job.settings["unlearn"]),
            job.identity["seed"],
            job.input("parent"),
        )

    @property
    def methods(self) -> list[Method]:
        return [self.objective] if self.optimizer is None else [self.objective, self.optimizer]

    def check(self, identity: dict[str, Any], group: Group) -> None:
        """Refuse methods that do not go together, or not in this many processes."""
        why_not = refusal(*self.methods)
        if group.shards and why_not:
            raise UserError(why_not)
        if (self.optimizer is None) == self.objective.trained:
            raise UserError(
                f"{identity['method']} with the optimizer {identity['optimizer']}: a method that takes no "
                "step goes with the optimizer none, every other method with one that takes steps"
            )
        smoothing = None if self.optimizer is None else self.optimizer.smoothing
        if smoothing is not None and (message := smoothing.refusal(self.objective)):
            raise UserError(message)
        if smoothing is not None and self.training.weights != "fp32":
            raise UserError(f"{smoothing.kind}: {smoothing.needs_fp32}; set `unlearn.weights: fp32`")


def unlearn_model(job: Job) -> Unlearned:
    """Unlearn the forget split from the model `parent`.

    Settings: `objective`, `optimizer`, `unlearn`, resolved, with `kind` in the first two, and `max_length`;
    the optimiser of a method that takes no step is {"kind": "none"}. `unlearn.prompt`: the format of this
    run's prompts and of the unlearned model's, where it differs from the parent's. With `unlearn.lora`,
    adapters are trained and merged into the weights at the end. The checkpoint stays; delete it with
    `remove_checkpoints` once the result is stored. In a job of several processes each calls this and has the
    result.
    """
    started, group, run = time.monotonic(), current(), _Run.of(job)
    run.check(job.identity, group)
    place = start(job.device, job.threads)
    run = replace(run, training=with_compute(run.training, place, group))
    model, tokenizer, prompt_format, parent = load_model_folder(run.parent)
    if run.training.prompt:
        prompt_format = PromptFormat(**dict(run.training.prompt))
    base, hashes = parent.get("base"), data_hashes(job.data)
    if run.optimizer is not None:  # before the model goes to a GPU: 8 bits are smaller
        adapted, weights = run.training.lora is not None, run.training.weights
        hold_reduced(model, base, adapted, weights, run.optimizer.kind, run.optimizer.moves_zeros)
    on_device(model, place)
    matched = None if job.optional("matched") is None else read_object(job.input("matched"))
    if matched is not None and matched["until"] is None:
        outcome, learning = Outcome([], matched["status"], matched["diverged_step"], 0, 0.0), 0
    elif run.optimizer is None:
        prompt_format = run.objective.prompts(prompt_format)
        check_prompt(tokenizer, prompt_format)  # not every chat template knows a system message
        outcome, learning = Outcome([], "ok", None, 0, 0.0), 0
    else:
        # A checkpoint of other settings or other code is not continued.
        settings = ("objective", "optimizer", "max_length", "trajectory")
        given = [matched, *map(job.settings.get, settings)]
        mark = fingerprint(
            job.identity, given, run.training.model_dump(), hashes, parent["weights_sha256"], job.code
        )
        encoder = Encoder(tokenizer, prompt_format, job.settings["max_length"], run.training.encoding)
        data = objective_data(
            run.objective, load_splits(job.data, ["forget", "retain"]), job.data, encoder, run.seed
        )
        with activations_again(model, run.training.checkpointing):
            judging = None
            if "trajectory" in job.settings:
                judging = import_module(TRAJECTORY).Judging(
                    job.settings, job.data, model, tokenizer, prompt_format, matched
                )
            outcome, learning = _trained(model, run, data, Kept(job.workplace, mark), group, judging)
    facts = run_facts(
        job.identity,
        outcome,
        place,
        started,
        objective=job.settings["objective"],
        optimizer_settings=job.settings["optimizer"],
        training=run.training.model_dump(),
        auto=became(job.settings["unlearn"], run.training.model_dump()) if run.optimizer else None,
        **base_facts(model, base),
        origin=parent["origin"],
        inputs=parent.get("inputs"),
        parameters=parent["parameters"],
        trained_parameters=learning,
        processes=group.size,
        data={name: hashes[name] for name in ("forget", "retain")},
        parent=parent["weights_sha256"],
        **({} if matched is None else {"matched": matched}),
        code=job.code,
    )
    return Unlearned(model, tokenizer, prompt_format, outcome, facts, place, group.writes)


def remove_checkpoints(checkpoint_dir: Path) -> None:
    """Delete what a run kept to be continued."""
    for folder in (checkpoint_dir, _first_phase(checkpoint_dir)):
        remove_work(folder)


def _first_phase(checkpoint_dir: Path) -> Path:
    return checkpoint_dir.with_name(f"{checkpoint_dir.name}-labels")


def _trained(
    model: Any, run: _Run, data: TrainingData, kept: Kept, group: Group, judging: Any
) -> tuple[Outcome, int]:
    """Unlearn, in place; the outcome, and how many parameters were trained.

    The model comes out plain: without adapters, nothing frozen.
    """
    loss, lora, before = run.objective, run.training.lora, 0.0
    if loss.needs_reference_nll:
        data = with_reference_nll(model, data, _course(run, data))
    if loss.needs_generic_labels:
        place = replace(kept, folder=_first_phase(kept.folder))
        labels, first = import_module(GENERIC_LABELS).generic_labels(
            model, loss, data, run.training, lora, run.seed, place, group
        )
        if first.status != "ok":
            if group.writes:
                print(f"the reinforced model diverged at step {first.diverged_step}", file=sys.stderr)
            return replace(first, steps=0), 0
        before, data = first.train_time_s, replace(data, forget_labels=labels)
    names = loss.trainable(model)
    if lora:
        adapters.attach(model, **lora.model_dump(), seed=derived_seed(run.seed, "adapters"), trained=names)
    elif names is not None:
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name in set(names))
    if run.training.weights != "fp32":
        model.to(torch.bfloat16)
    learning = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    with in_parts(model, group) as (working, together):
        if loss.needs_reference_model:
            loss = loss.with_reference_model(_reference(working, run, together))
        assert run.optimizer is not None
        course = _course(run, data)
        update = make_update(run.optimizer, working, course, run.training, together)
        judged = (judging.of(course.steps, run.training.warmup), judging.ends) if judging else ()
        outcome = train(working, loss, update, course, kept, together, *judged)
    outcome = replace(outcome, train_time_s=before + outcome.train_time_s)
    if lora:
        adapters.detach(model.float(), merge=True)
    model.requires_grad_(True)
    if loss.needs_original_weights and outcome.status == "ok":
        loss.finish(model.float(), dict(load_model_folder(run.parent)[0].named_parameters()))
    return outcome, learning


def _reference(model: Any, run: _Run, group: Group) -> Any:
    """What gives the model before unlearning: this one without its adapters, or a frozen second one.

    It is rounded as the trained model is (`unlearn.weights`), so that both begin as the same function: else a
    divergence from it would first of all train away the rounding.
    """
    if run.training.lora:
        return partial(adapters.adapters_off, model)
    first, depth = next(model.parameters()), run.objective.reference_depth
    reference = load_model_folder(run.parent)[0]
    if depth is not None:  # layers above it are not read
        for module in reference.get_decoder().children():
            if isinstance(module, torch.nn.ModuleList):
                del module[depth:]
    reference = on_device(reference.to(first.dtype), first.device).eval().requires_grad_(False)
    return partial(nullcontext, shard_reference(reference, group))


def _course(run: _Run, data: TrainingData) -> MiniBatches | WholeSets:
    """What each step of the run is taken on."""
    if run.optimizer is not None and run.optimizer.one_shot:
        return WholeSets(data, run.training, run.seed, run.objective)
    return MiniBatches(data, run.training, run.seed)
