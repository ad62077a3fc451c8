"""The one training loop, for fine-tuning and for unlearning.

It knows batches, schedule, checkpoint and log; an update knows how one step is taken (`training.updates`).

Each row of the log has `step` (from 1), `epoch`, the losses (nats), `grad_norm` before clipping,
`learning_rate`, `tokens_per_s`, `memory_mb` (MiB, of the first process) and `elapsed_s`. From the optimiser
come `clipped_share`, `clipped_norm_share` (of the squared norm of the step, in clipped coordinates),
`cosine_signum` and `cosine_adamw` (of the step with theirs from the same state, `optimizers/watching.py`),
`update_norm` (L2, without weight decay) and `gamma`, None where it has none. From its
curvature come `curvature_mean` (of the average h, over all coordinates), `curvature_drift` (see `Refresher`)
and `curvature_s` (seconds), None in steps without an estimate; and `update_every` (steps until the next
estimate, as decided by this step) and `curvature_skipped` (estimates so far that were not finite), None for
optimisers without curvature. `objective_<name>` is what a stateful objective adapts, after the step. An
update may add columns of its own. Where the optimiser keeps a mean of the weights, that is what is judged and
what the run leaves.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from pipeline_lib.core.errors import UserError
from pipeline_lib.core.meter import Meter
from pipeline_lib.core.stopping import deferred
from pipeline_lib.data.batching import Batch
from pipeline_lib.distributed.group import ALONE, Group
from pipeline_lib.models.memory import peak_memory_mb
from pipeline_lib.objectives import Objective
from pipeline_lib.smoothing.averaging import Averaging
from pipeline_lib.training import checkpoint
from pipeline_lib.training.batches import Course
from pipeline_lib.training.checkpoint import Keeper, Kept, Progress
from pipeline_lib.training.schedule import learning_rate_factor
from pipeline_lib.training.updates import STATISTICS, Diverged, Step, Update

Judge = Callable[[int], dict[str, Any] | None]  # finished step -> its `judged`; None: it is not judged
LOSSES = ("loss", "forget_loss", "retain_loss")
_CURVATURE = ("curvature_mean", "curvature_drift", "curvature_s", "update_every", "curvature_skipped")
_COLUMNS = (*LOSSES, "grad_norm", "learning_rate", *STATISTICS, *_CURVATURE)


@dataclass(frozen=True)
class Outcome:
    """What a run leaves: `log` has one row a step; `status` is "ok", or "diverged" at `diverged_step`."""

    log: list[dict[str, Any]]
    status: str
    diverged_step: int | None
    steps: int
    train_time_s: float


def train(
    model: torch.nn.Module,
    objective: Objective,
    update: Update,
    course: Course,
    kept: Kept,
    group: Group = ALONE,
    judge: Judge | None = None,
    ends: Callable[[dict[str, Any]], bool] = lambda row: False,
) -> Outcome:
    """Train `model` in place, by one `update` for each step of the `course`, and return the log.

    Everything random is derived from the seed and the step, so a killed run continues from its last
    checkpoint to the same bits. On SIGTERM it writes one of the steps taken so far and raises `Stopped`,
    within one micro-batch, or one step where processes share it. A step that is not finite ends the run as
    "diverged", before it is taken; a row of which `ends` is true ends it after its step.

    `group`: the processes that share each step's rows; all call this with equal arguments and get the
    outcome, that of one process up to rounding and dropout's masks. Only the first writes checkpoints.
    `judge`: number of a finished step -> the row's `judged`; its time is not the training's.
    """
    assert course.settings.compute != "auto", "a step resolves it before it trains (training/compute.py)"
    if group.size > course.size:
        raise UserError(
            f"{group.size} processes would share steps of {course.size} examples (batch_size times "
            "accumulation), and some would have none; ask for fewer processes, or make the step larger"
        )
    total, rates = course.steps, [held["lr"] for held in update.optimizer.param_groups]
    done = checkpoint.load(kept, model, update.optimizer, group)
    if done.adaptive:
        objective.restore(done.adaptive["objective"])
        update.restore(done.adaptive["update"])
    save = partial(checkpoint.save, kept, model, update.optimizer, done, group)
    keeper = Keeper(save, course.settings.checkpoint_seconds, total, group)
    model.train()
    started = time.monotonic() - (done.log[-1]["elapsed_s"] if done.log else 0.0)
    with deferred(), Meter(total, "step", done=done.step, show=group.writes) as meter:
        while done.step < total and not (done.log and ends(done.log[-1])):
            begun = time.monotonic()
            _set_rates(update.optimizer, rates, course, done.step)
            step = _step(model, objective, update, course, group, keeper, done.step)
            try:
                facts = update.take(step)
            except Diverged:
                return _ended(update, group, done, started, done.step + 1)
            done.step += 1
            epoch = done.step / (total / course.epochs)
            losses = {name: facts[name] for name in LOSSES if name in facts}
            objective.after_step({**losses, "epoch": epoch})
            now = time.monotonic()
            row = {"step": done.step, "epoch": epoch, **_facts(update, objective, step, now - begun)}
            row |= {"elapsed_s": now - started} | facts
            done.log.append(row | _judged(judge, update, group, done.step))
            done.adaptive = {"objective": objective.state(), "update": update.state()}
            started += time.monotonic() - now
            meter.update(facts=", ".join(f"{name}={loss:.3f}" for name, loss in losses.items()))
            keeper.after(done.step)
    return _ended(update, group, done, started)


def _ended(
    update: Update, group: Group, done: Progress, started: float, diverged: int | None = None
) -> Outcome:
    """What the run leaves; `diverged`: the step that could not be taken, if one could not."""
    _exchange(update, group)
    broken = float(sum(not torch.isfinite(p).all() for p in _learning(update)))
    if diverged is None and group.over_parts([broken])[0]:
        diverged = done.step
    status = "ok" if diverged is None else "diverged"
    return Outcome(done.log, status, diverged, done.step, time.monotonic() - started)


def _facts(update: Update, objective: Objective, step: Step, seconds: float) -> dict[str, Any]:
    """The columns of a step's row that the update itself does not fill."""
    row: dict[str, Any] = dict.fromkeys(_COLUMNS)
    row["learning_rate"] = update.optimizer.param_groups[0]["lr"]
    row |= {f"objective_{name}": value for name, value in objective.state().items()}
    return row | {"tokens_per_s": step.tokens / seconds, "memory_mb": peak_memory_mb(step.device)}


def _judged(judge: Judge | None, update: Update, group: Group, step: int) -> dict[str, Any]:
    """What the judge says of the weights that the run would leave if it ended here."""
    if judge is None:
        return {}
    _exchange(update, group)
    found = judge(step)
    _exchange(update, group)
    return {} if found is None else {"judged": found}


def _exchange(update: Update, group: Group) -> None:
    """The mean of the weights and the weights change places, where the run keeps a mean."""
    if isinstance(update.optimizer, Averaging):
        update.optimizer.exchange()
        group.stepped()


def _learning(update: Update) -> list[torch.Tensor]:
    """The parameters that learn, each once where several optimisers step it."""
    held = (parameter for held in update.optimizer.param_groups for parameter in held["params"])
    return list({id(parameter): parameter for parameter in held}.values())


def _set_rates(optimizer: torch.optim.Optimizer, rates: Sequence[float], course: Course, step: int) -> None:
    """The schedule's learning rates in `step`; `rates`: of each parameter group, at the most."""
    settings = course.settings
    factor = learning_rate_factor(step + 1, course.steps, settings.warmup, settings.decay)
    for held, rate in zip(optimizer.param_groups, rates, strict=True):
        held["lr"] = rate * factor


def _step(
    model: torch.nn.Module,
    objective: Objective,
    update: Update,
    course: Course,
    group: Group,
    keeper: Keeper,
    number: int,
) -> Step:
    """What the update of this step is given."""
    device = next(model.parameters()).device
    forget, retain = course.batches(number)
    seen = forget * objective.uses_forget + retain * objective.uses_retain
    return Step(
        number,
        course.seed,
        model,
        _learning(update),
        objective,
        [batch.to(device) for batch in forget],
        [batch.to(device) for batch in retain],
        sum(tokens_of(batch) for batch in seen),  # before they go to a GPU
        course.settings.compute,
        group,
        partial(keeper.stop, number),
    )


def tokens_of(batch: Batch) -> int:
    """Tokens that the model reads of a batch, its alternative answers included."""
    own = int(batch.attention_mask.sum())
    return own if batch.alternative is None else own + tokens_of(batch.alternative)
