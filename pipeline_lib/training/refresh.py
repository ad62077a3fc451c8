"""When and on what the optimiser's curvature is estimated, and what is done with an estimate."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import Any

import torch

from pipeline_lib.curvature.base import StepData
from pipeline_lib.data.batching import Batch, draw_examples
from pipeline_lib.distributed.group import ALONE, Group
from pipeline_lib.objectives import Objective
from pipeline_lib.optimizers.base import Curvature
from pipeline_lib.optimizers.elementwise import chunks

MOST_STEPS = 100  # between two estimates, with `update_every` "auto"
PATIENCE = 3  # estimates in a row that are not finite end the run


class Refresher:
    """Hands estimates to an optimiser that averages them into its curvature h, as Sophia does.

    With a number of steps k, at every k-th step, the first included. With "auto" k begins at 1; after
    each estimate it is doubled if h drifted by less than the target, halved if by more, within 1 and 100.
    The drift of one estimate h_hat is

        |h_new - h_old|_1 / |h_old|_1 = (1 - beta2) |h_hat - h_old|_1 / |h_old|_1

    over all parameters; the first estimate has none, because h is 0 before it. It holds the true change
    since the last estimate and, times 1 - beta2, the noise of a single estimate: for a noise of about
    the size of h no target below 1 - beta2 is ever met, and k stays 1. While h still grows from 0 (about
    1 / (1 - beta2) estimates) the n-th one drifts by about 1 / n.

    An estimate that is not finite is dropped and counted: h stays. `PATIENCE` of them in a row make
    the refresher `exhausted`. Everything it decides follows from the run alone, whatever the number of
    processes in `group`, and is in `state`.
    """

    def __init__(self, curvature: Curvature, optimizer: torch.optim.Optimizer, group: Group = ALONE):
        self.curvature = curvature
        self.group = group
        self.optimizer: Any = optimizer
        self.parameters = [p for group in optimizer.param_groups for p in group["params"]]
        self.every = 1 if curvature.update_every == "auto" else curvature.update_every  # steps in force
        self.next_step = 0
        self.skipped = 0
        self.skipped_in_a_row = 0

    @property
    def of_gradient(self) -> bool:
        """Whether estimates are made of the gradient of the step."""
        return self.curvature.estimator.at_hand

    @property
    def exhausted(self) -> bool:
        return self.skipped_in_a_row >= PATIENCE

    def state(self) -> dict[str, int]:
        """What a checkpoint keeps."""
        return {name: getattr(self, name) for name in ("every", "next_step", "skipped", "skipped_in_a_row")}

    def restore(self, state: dict[str, int]) -> None:
        """Take over what `state` gave."""
        for name in self.state():
            setattr(self, name, state[name])

    def due(self, step: int) -> bool:
        """Whether `step`, counted from 0, needs an estimate."""
        return step >= self.next_step

    def refresh(
        self,
        model: torch.nn.Module,
        objective: Objective,
        forget: Sequence[Batch],
        retain: Sequence[Batch],
        step: int,
        generator: torch.Generator,
    ) -> dict[str, float | None]:
        """Estimate on the batches of `step` and give the result to the optimiser; returns facts for the log.

        With `of_gradient` the parameters' `.grad` hold the gradient of the objective on this step, not
        clipped; other estimates are best made while there is none, which saves its memory. Every process
        is given the whole step and an equal `generator`, so all draw the same examples.
        """
        started = time.monotonic()
        if self.curvature.examples is not None:
            forget, retain = (
                draw_examples(batches, self.curvature.examples, generator) if batches else batches
                for batches in (forget, retain)
            )
        estimate = self.curvature.estimator.estimate(
            model,
            objective,
            StepData(forget, retain, self.curvature.data),
            self.parameters,
            generator,
            gradient=[parameter.grad for parameter in self.parameters] if self.of_gradient else None,
            group=self.group,
        )
        facts: dict[str, float | None] = {}
        if math.isfinite(self._sum(estimate)):
            if self.curvature.arrangement is not None:
                for number, parameter in enumerate(self.parameters):
                    estimate[number] = self.curvature.arrangement.of(
                        estimate[number], parameter, number, self.group
                    )
            facts["curvature_drift"] = drift = self._drift(estimate)
            self.optimizer.update_curvature(estimate)
            averages, _ = self._averages()
            (coordinates,) = self.group.over_parts([float(sum(h.numel() for h in averages))])
            facts["curvature_mean"] = self._sum(averages) / coordinates
            self.skipped_in_a_row = 0
            if self.curvature.update_every == "auto" and drift is not None:
                assert self.curvature.drift_target is not None
                steady = drift < self.curvature.drift_target
                self.every = min(2 * self.every, MOST_STEPS) if steady else max(self.every // 2, 1)
        else:
            self.skipped += 1
            self.skipped_in_a_row += 1
        self.next_step = step + self.every
        return {**facts, "curvature_s": time.monotonic() - started}

    def _averages(self) -> tuple[list[torch.Tensor], list[float]]:
        """h and beta2 of every parameter; no h before the first estimate."""
        held = self.optimizer.state_dict()  # holds references, and works through a wrapper
        averages = [held["state"][i]["curvature"] for i in sorted(held["state"])]
        beta2 = [group["beta2"] for group in held["param_groups"] for _ in group["params"]]
        return averages, beta2

    def _drift(self, estimate: Sequence[torch.Tensor]) -> float | None:
        averages, beta2 = self._averages()
        before = self._sum([h.abs().sum() for h in averages]) if averages else 0.0
        if not before:
            return None
        changes = [
            (new - old).abs_().sum() * (1 - b)
            for value, h, b in zip(estimate, averages, beta2, strict=True)
            for new, old in chunks(value.to(h.device), h)  # a step on the host keeps h there
        ]
        return self._sum(changes) / before

    def _sum(self, tensors: Sequence[torch.Tensor]) -> float:
        """Sum of all elements of all processes' parts; not finite where one of them is not.

        Of sums, not a 1-norm: torch's adds one by one in fp32 on a CPU and stands still at 2^24 equal terms.
        """
        own = float(torch.stack([tensor.sum().double() for tensor in tensors]).sum())
        return self.group.over_parts([own])[0]
