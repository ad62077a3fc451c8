"""What an update of the weights is, and the plain one: a step of an optimiser along the gradient.

The loop (`training.loop`) knows batches, schedule, checkpoint and log. An update knows how one step is taken:
it is given a `Step`, calls its closures as often as it needs to, and leaves the weights after the step.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import torch

from pipeline_lib.data.batching import Batch
from pipeline_lib.distributed.group import Group
from pipeline_lib.distributed.pieces import pieces
from pipeline_lib.objectives import Losses, Objective
from pipeline_lib.objectives.base import Part
from pipeline_lib.optimizers import Optimizer
from pipeline_lib.optimizers.make import make_optimizer
from pipeline_lib.smoothing import Smoothing
from pipeline_lib.training.refresh import Refresher
from pipeline_lib.training.sampling import derived_seed

# What an optimiser may tell of its step; `training.loop` says what each is.
STATISTICS = (
    "clipped_share",
    "clipped_norm_share",
    "cosine_signum",
    "cosine_adamw",
    "update_norm",
    "gamma",
)


class Diverged(Exception):
    """A step cannot be taken, because a loss, a gradient or curvature is not finite."""


@dataclass(frozen=True)
class Step:
    """One step of a run, counted from 0: its batches, on the model's device, and what may be asked of them.

    `parameters`: what learns. `tokens`: what the model reads in one pass over the batches. `seed`: of the
    run. `compute`: "fp32", or "bf16" for autocast of the passes. `stop` ends the run with a checkpoint of the
    steps before, if the process is asked to end; all processes of `group` call it together.
    """

    number: int
    seed: int
    model: torch.nn.Module
    parameters: Sequence[torch.Tensor]
    objective: Objective
    forget: Sequence[Batch]
    retain: Sequence[Batch]
    tokens: int
    compute: str
    group: Group
    stop: Callable[[], object]

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    @torch.enable_grad()
    def gradients(self, untouched: bool = False, part: Part = "total") -> dict[str, float]:
        """Put the gradient of the objective on the whole step into `.grad`; returns the losses, in nats.

        `part`: of which term it is the gradient; the losses and the chance are those of the whole.

        Keys: "loss", which the objective is, and "forget_loss" and "retain_loss" where the objective has
        them. Every call sees the same batches and the same chance (dropout): calls differ by the weights
        alone. `untouched`: nothing of the run was changed in this step so far, so that a process that works
        alone may leave it between two micro-batches.
        """
        for parameter in self.parameters:
            parameter.grad = None
        stop = self.stop if untouched and self.group.size == 1 else None

        def back(losses: Losses) -> None:
            if (term := losses.part(part)) is not None:
                term.backward()

        sums = self._passes(back, stop)
        self.group.take_gradients(self.parameters)
        return self._read(sums)

    @torch.no_grad()
    def losses(self) -> dict[str, float]:
        """The same losses with the same chance, without a gradient; `.grad` stays as it is."""
        return self._read(self._passes(lambda losses: None, None))

    def apply(self, optimizer: torch.optim.Optimizer) -> None:
        """One step of the optimiser along what lies in `.grad`, which is gone afterwards."""
        if self.group.size > 1:
            # Replicas must round alike where rounding is random, or their weights would drift apart.
            seed = derived_seed(self.seed, "step", self.number)
            torch.manual_seed(derived_seed(seed, self.group.rank) if self.group.sharded else seed)
        optimizer.step()
        self.group.stepped()
        optimizer.zero_grad(set_to_none=True)

    def autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.compute == "bf16")

    def _passes(
        self, after: Callable[[Losses], object], stop: Callable[[], object] | None
    ) -> dict[str, torch.Tensor]:
        """Sums of the losses over this process's micro-batches (0-dimensional, fp64, on the device)."""
        seed = derived_seed(self.seed, "step", self.number)
        # Dropout, where a model has it: processes work on different rows and need different masks.
        torch.manual_seed(derived_seed(seed, self.group.rank) if self.group.rank else seed)
        used = (self.objective.uses_forget, self.objective.uses_retain)
        forget, retain = (
            [piece.batch for piece in pieces(batches, self.group)] if wanted else []
            for batches, wanted in zip((self.forget, self.retain), used, strict=True)
        )
        sums: dict[str, torch.Tensor] = {}
        for i in range(max(len(forget), len(retain))):
            if stop is not None:
                stop()
            with self.autocast():
                losses = self.objective(
                    self.model, forget[i] if forget else None, retain[i] if retain else None
                )
            after(losses)
            named = {"loss": losses.total, "forget_loss": losses.forget, "retain_loss": losses.retain}
            for name, value in named.items():
                if value is not None:
                    sums[name] = sums.get(name, 0.0) + value.detach().double()
        return sums

    def _read(self, sums: dict[str, torch.Tensor]) -> dict[str, float]:
        """The sums of all processes; a GPU waits once."""
        return self.group.sums(dict(zip(sums, torch.stack(list(sums.values())).tolist(), strict=True)))


class Update(Protocol):
    """How the weights change in one step. A new one is a class with these four.

    `optimizer` holds what learns: the loop sets its learning rates, and a checkpoint keeps its states.
    """

    optimizer: torch.optim.Optimizer

    def take(self, step: Step) -> dict[str, Any]:
        """Take the step; facts for its row of the log, with the keys of the losses (see `Step.gradients`).

        Raises `Diverged`, before the weights are changed, where the step has no finite numbers.
        """

    def state(self) -> dict[str, Any]:
        """Plain values that a checkpoint keeps so that `restore` continues from there."""
        return {}

    def restore(self, state: dict[str, Any]) -> None:
        """Take over what `state` gave."""
        return


@dataclass
class GradientUpdate:
    """A step along the gradient, clipped to `max_grad_norm` (L2), after an estimate of curvature where due.

    The gradient may be that of a smoothed objective.

    As the estimator wants it, an estimate is made from the step's own gradient before that is clipped, or
    before that gradient exists, so that the two never need memory at the same time.
    """

    optimizer: torch.optim.Optimizer
    max_grad_norm: float
    refresher: Refresher | None = None
    smoothing: Smoothing | None = None

    def take(self, step: Step) -> dict[str, Any]:
        refresher = self.refresher
        facts: dict[str, Any] = {}
        due = refresher is not None and refresher.due(step.number)
        if refresher and due and not refresher.of_gradient:
            facts |= _estimate(refresher, step)
        # What an estimate changed cannot be taken back.
        gradients = step.gradients if self.smoothing is None else partial(self.smoothing.gradients, step)
        losses = gradients(untouched=not due)
        total_norm = step.group.norm(step.parameters)
        if not (math.isfinite(losses["loss"]) and math.isfinite(total_norm)):
            raise Diverged
        norm = float(total_norm)
        if refresher:
            if due and refresher.of_gradient:
                facts |= _estimate(refresher, step)
            if refresher.exhausted:
                raise Diverged
            facts |= {"update_every": refresher.every, "curvature_skipped": refresher.skipped}
        torch.nn.utils.clip_grads_with_norm_(step.parameters, self.max_grad_norm, total_norm)
        step.apply(self.optimizer)
        statistics = getattr(self.optimizer, "statistics", {})
        told = {name: statistics.get(name) for name in STATISTICS}
        return {**losses, "grad_norm": norm, **told, **facts}

    def state(self) -> dict[str, Any]:
        return self.refresher.state() if self.refresher else {}

    def restore(self, state: dict[str, Any]) -> None:
        if self.refresher:
            self.refresher.restore(state)


def _estimate(refresher: Refresher, step: Step) -> dict[str, Any]:
    """Curvature estimated on this step's batches, with chance of its own; facts for the log."""
    generator = torch.Generator(step.device).manual_seed(derived_seed(step.seed, "labels", step.number))
    torch.manual_seed(derived_seed(step.seed, "curvature", step.number, step.group.rank))  # dropout's masks
    with step.autocast():
        return refresher.refresh(step.model, step.objective, step.forget, step.retain, step.number, generator)


def gradient_update(
    method: Optimizer,
    model: torch.nn.Module,
    max_grad_norm: float,
    group: Group,
    stochastic_rounding: bool = False,
    offload: bool = False,
    steps: int = 0,
) -> GradientUpdate:
    """The plain update of a model by an optimiser, with the curvature and the smoothing that it asks for.

    `steps`: of the run, which some smoothings must know. The others: see `make_optimizer`.
    """
    optimizer = make_optimizer(method, model, stochastic_rounding, offload, group)
    if method.smoothing is not None:
        optimizer = method.smoothing.stepping(optimizer, steps)
    curvature = method.curvature
    refresher = None if curvature is None else Refresher(curvature, optimizer, group)
    return GradientUpdate(optimizer, max_grad_norm, refresher, method.smoothing)
