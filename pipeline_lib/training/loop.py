"""The one training loop, for fine-tuning and for unlearning."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import torch
from tqdm import tqdm

from pipeline_lib.data.batching import Batch, micro_batches
from pipeline_lib.distributed.group import ALONE, Group
from pipeline_lib.distributed.pieces import pieces
from pipeline_lib.errors import UserError
from pipeline_lib.memory import peak_memory_mb
from pipeline_lib.objectives import Objective
from pipeline_lib.stopping import asked, deferred
from pipeline_lib.training import checkpoint
from pipeline_lib.training.data import TrainingData, forget_batches
from pipeline_lib.training.keeping import Keeper
from pipeline_lib.training.refresh import NO_CURVATURE, Curvature, Refresher
from pipeline_lib.training.sampling import derived_seed, epoch_rows, rows_before, stream_rows
from pipeline_lib.training.schedule import learning_rate_factor


@dataclass(frozen=True)
class TrainingSettings:
    """How long and in what pieces. Sizes count examples of each of the two sets."""

    epochs: float  # of the forget set; of the training data when fine-tuning
    batch_size: int  # examples in one forward pass
    accumulation: int  # micro-batches a step
    warmup: float  # share of the steps
    decay: str  # "constant", "linear" or "cosine"
    max_grad_norm: float
    compute: str  # "fp32", or "bf16": autocast; parameters, gradients and states stay fp32
    checkpoint_seconds: float  # 0 = after every step


@dataclass(frozen=True)
class Outcome:
    """What a run leaves: `log` has one row a step; `status` is "ok", or "diverged" at `diverged_step`."""

    log: list[dict[str, Any]]
    status: str
    diverged_step: int | None
    steps: int
    train_time_s: float


def step_count(data: TrainingData, settings: TrainingSettings) -> int:
    """Optimiser steps of the whole run, at least 1."""
    n = len(data.forget) or len(data.retain)
    return max(1, round(settings.epochs * math.ceil(n / (settings.batch_size * settings.accumulation))))


def step_batches(
    data: TrainingData, settings: TrainingSettings, step: int, seed: int
) -> tuple[list[Batch], list[Batch]]:
    """Forget and retain micro-batches of `step`, counted from 0; the same step gives the same batches."""
    size = settings.batch_size * settings.accumulation
    if not data.forget:
        rows = epoch_rows(len(data.retain), size, step, seed)
        return [], micro_batches([data.retain[i] for i in rows], settings.batch_size, data.pad_id)
    rows = forget_rows(data, settings, step, seed)
    start = rows_before(len(data.forget), size, step)
    retain = [data.retain[i] for i in stream_rows(len(data.retain), start, len(rows), seed)]
    return (
        forget_batches(data, rows, step, seed, settings.batch_size),
        micro_batches(retain, settings.batch_size, data.pad_id),
    )


def forget_rows(data: TrainingData, settings: TrainingSettings, step: int, seed: int) -> list[int]:
    """Rows of the forget set that `step`, counted from 0, sees."""
    return epoch_rows(len(data.forget), settings.batch_size * settings.accumulation, step, seed)


def train(
    model: torch.nn.Module,
    objective: Objective,
    optimizer: torch.optim.Optimizer,
    data: TrainingData,
    settings: TrainingSettings,
    seed: int,
    curvature: Curvature | None,
    checkpoint_folder: Path,
    fingerprint: str,
    group: Group = ALONE,
) -> Outcome:
    """Train `model` in place and return the log.

    Everything random is derived from `seed` and the step, so a run that is killed and started again
    continues from its last checkpoint to the same bits. Asked to end (SIGTERM), it writes one of the steps it
    has taken and raises `Stopped`: within one micro-batch, or one step where processes share it. A loss or
    gradient that is not finite, or curvature that is not in three estimates in a row, ends the run as
    "diverged" before the step is taken.

    Each row of the log has `step` (from 1), `epoch`, the losses (nats), `grad_norm` before clipping,
    `learning_rate`, `tokens_per_s`, `memory_mb` (MiB) and `elapsed_s`; of the optimiser `clipped_share`,
    `update_norm` (L2, without weight decay) and `gamma`, None where it has none; and of its curvature
    `curvature_mean` (of the average h, over all coordinates), `curvature_drift` (see `Refresher`) and
    `curvature_s` (seconds), None but where it was estimated, `update_every` (steps until the next
    estimate, as decided by this step) and `curvature_skipped` (estimates so far that were not finite),
    None for optimisers without; and `objective_<name>` for what a stateful objective adapts, after the step.

    `group`: the processes that share each step's rows; all of them call this with equal arguments, and all
    get the outcome. Losses and weights are those of one process up to the order of rounding, but for
    dropout, which has other masks. `memory_mb` is of the first process, which alone writes checkpoints.
    """
    _check_shares(settings, group)
    device = next(model.parameters()).device
    total_steps = step_count(data, settings)
    per_epoch = total_steps / settings.epochs
    base_rates = [group["lr"] for group in optimizer.param_groups]
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    refresher = None if curvature is None else Refresher(curvature, optimizer, group)
    done, log, adaptive = checkpoint.load(checkpoint_folder, model, optimizer, fingerprint, group)
    if adaptive:
        _restore(adaptive, objective, refresher)
    model.train()
    started = time.monotonic()
    earlier = log[-1]["elapsed_s"] if log else 0.0

    keeper = Keeper(
        (checkpoint_folder, model, optimizer),
        (log, fingerprint),
        lambda: _adaptive(objective, refresher),
        settings.checkpoint_seconds,
        total_steps,
        group,
    )
    bar = tqdm(total=total_steps, initial=done, unit="step", mininterval=2, disable=not group.writes)
    with deferred(), bar:
        for step in range(done, total_steps):
            step_started = time.monotonic()
            step_seed = derived_seed(seed, "step", step)
            factor = learning_rate_factor(step + 1, total_steps, settings.warmup, settings.decay)
            for held, rate in zip(optimizer.param_groups, base_rates, strict=True):
                held["lr"] = rate * factor
            forget, retain = step_batches(data, settings, step, seed)
            seen = forget * objective.uses_forget + retain * objective.uses_retain
            tokens = sum(tokens_of(batch) for batch in seen)  # before they go to a GPU
            forget, retain = [b.to(device) for b in forget], [b.to(device) for b in retain]
            facts = dict(NO_CURVATURE)
            due = refresher is not None and refresher.due(step)
            if refresher and due and not refresher.of_gradient:
                # Before the step's own gradients are there: two lists of them never are at the same time.
                facts |= _refresh(refresher, model, objective, forget, retain, settings, step, seed)
            # Dropout, where a model has it: processes work on different rows and need different masks.
            torch.manual_seed(derived_seed(step_seed, group.rank) if group.rank else step_seed)
            # What an estimate changed cannot be taken back, and other processes are in the same step.
            leave = None if due or group.size > 1 else partial(keeper.leave, step)
            losses = _accumulate(model, objective, forget, retain, settings, parameters, group, leave)
            # no name for the list: it would keep this step's gradients through the next one
            total_norm = group.norm(parameters)
            norm = float(total_norm)
            if not (math.isfinite(losses["loss"]) and math.isfinite(norm)):
                return Outcome(log, "diverged", step + 1, step, earlier + time.monotonic() - started)
            if refresher:
                if due and refresher.of_gradient:
                    facts |= _refresh(refresher, model, objective, forget, retain, settings, step, seed)
                if refresher.exhausted:
                    return Outcome(log, "diverged", step + 1, step, earlier + time.monotonic() - started)
                facts |= {"update_every": refresher.every, "curvature_skipped": refresher.skipped}
            torch.nn.utils.clip_grads_with_norm_(parameters, settings.max_grad_norm, total_norm)
            _take_step(optimizer, step_seed, group)
            objective.after_step({**losses, "epoch": (step + 1) / per_epoch})
            now = time.monotonic()
            log.append(
                {
                    "step": step + 1,
                    "epoch": (step + 1) / per_epoch,
                    **_facts_of_step(losses, norm, optimizer),
                    **facts,
                    **{f"objective_{name}": value for name, value in objective.state().items()},
                    "tokens_per_s": tokens / (now - step_started),
                    "memory_mb": peak_memory_mb(device),
                    "elapsed_s": earlier + now - started,
                }
            )
            bar.update()
            bar.set_postfix({k: f"{v:.3f}" for k, v in losses.items()}, refresh=False)
            keeper.after(step + 1)
    broken = float(sum(not torch.isfinite(p).all() for p in parameters))
    if group.over_parts([broken])[0]:
        return Outcome(log, "diverged", total_steps, total_steps, earlier + time.monotonic() - started)
    return Outcome(log, "ok", None, total_steps, earlier + time.monotonic() - started)


def _check_shares(settings: TrainingSettings, group: Group) -> None:
    rows = settings.batch_size * settings.accumulation
    if group.size > rows:
        raise UserError(
            f"{group.size} processes would share steps of {rows} examples (batch_size times accumulation), "
            "and some would have none; ask for fewer processes, or make the step larger"
        )


def _refresh(
    refresher: Refresher,
    model: torch.nn.Module,
    objective: Objective,
    forget: list[Batch],
    retain: list[Batch],
    settings: TrainingSettings,
    step: int,
    seed: int,
) -> dict[str, float | None]:
    """Curvature estimated on this step's batches, with chance of its own; facts for the log."""
    device = next(model.parameters()).device
    generator = torch.Generator(device).manual_seed(derived_seed(seed, "labels", step))
    torch.manual_seed(derived_seed(seed, "curvature", step, refresher.group.rank))  # dropout's masks
    with _autocast(settings.compute, device):
        return refresher.refresh(model, objective, forget, retain, step, generator)


def _take_step(optimizer: torch.optim.Optimizer, step_seed: int, group: Group) -> None:
    if group.size > 1:
        # Replicas must round alike where rounding is random, or their weights would drift apart.
        torch.manual_seed(derived_seed(step_seed, group.rank) if group.sharded else step_seed)
    optimizer.step()
    group.stepped()
    optimizer.zero_grad(set_to_none=True)


def _facts_of_step(
    losses: dict[str, float], norm: float, optimizer: torch.optim.Optimizer
) -> dict[str, float | None]:
    """What a row of the log says of the step itself."""
    statistics = getattr(optimizer, "statistics", {})
    return {
        "loss": losses["loss"],
        "forget_loss": losses.get("forget_loss"),
        "retain_loss": losses.get("retain_loss"),
        "grad_norm": norm,
        "learning_rate": optimizer.param_groups[0]["lr"],
        "clipped_share": statistics.get("clipped_share"),
        "update_norm": statistics.get("update_norm"),
        "gamma": statistics.get("gamma"),
    }


def _adaptive(objective: Objective, refresher: Refresher | None) -> dict[str, Any]:
    """What objective and curvature have adapted so far, for a checkpoint."""
    return {"objective": objective.state(), "curvature": refresher.state() if refresher else {}}


def _restore(adaptive: dict[str, Any], objective: Objective, refresher: Refresher | None) -> None:
    """Take over what `_adaptive` gave."""
    objective.restore(adaptive["objective"])
    if refresher:
        refresher.restore(adaptive["curvature"])


def tokens_of(batch: Batch) -> int:
    """Tokens that the model reads of a batch, its alternative answers included."""
    own = int(batch.attention_mask.sum())
    return own if batch.alternative is None else own + tokens_of(batch.alternative)


def _autocast(compute: str, device: torch.device) -> torch.autocast:
    return torch.autocast(device.type, torch.bfloat16, enabled=compute == "bf16")


def _accumulate(
    model: torch.nn.Module,
    objective: Objective,
    forget: list[Batch],
    retain: list[Batch],
    settings: TrainingSettings,
    parameters: list[torch.Tensor],
    group: Group,
    leave: Callable[[], NoReturn] | None,
) -> dict[str, float]:
    """Backward over the step's micro-batches; returns the step's losses (nats).

    `leave` is called where the process is asked to end between two of them. Each process of the group
    takes pieces of its own; gradients and losses are those of all of them.
    """
    sums: dict[str, torch.Tensor] = {}
    own_forget = [piece.batch for piece in pieces(forget, group)] if objective.uses_forget else []
    own_retain = [piece.batch for piece in pieces(retain, group)] if objective.uses_retain else []
    for i in range(max(len(own_forget), len(own_retain))):
        if leave is not None and asked():
            leave()
        with _autocast(settings.compute, next(model.parameters()).device):
            losses = objective(
                model,
                own_forget[i] if own_forget else None,
                own_retain[i] if own_retain else None,
            )
        losses.total.backward()
        parts = {"loss": losses.total, "forget_loss": losses.forget, "retain_loss": losses.retain}
        for name, value in parts.items():
            if value is not None:
                sums[name] = sums.get(name, 0.0) + value.detach().double()  # added where they lie:
    group.take_gradients(parameters)
    # a GPU waits once
    return group.sums(dict(zip(sums, torch.stack(list(sums.values())).tolist(), strict=True)))
