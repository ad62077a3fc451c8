"""Influence unlearning's update: one damped Newton step."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import InitVar, dataclass, field
from typing import Any, cast

import torch

from pipeline_lib.core.errors import UserError
from pipeline_lib.core.meter import Meter
from pipeline_lib.data.batching import Example, micro_batches
from pipeline_lib.distributed.group import Group
from pipeline_lib.influence import Report
from pipeline_lib.influence.newton import NewtonSettings, newton_direction
from pipeline_lib.influence.vectors import norm, parts
from pipeline_lib.optimizers.influence import Influence
from pipeline_lib.training.batches import Course, WholeSets
from pipeline_lib.training.data import forget_examples
from pipeline_lib.training.sampling import derived_seed
from pipeline_lib.training.settings import Unlearn
from pipeline_lib.training.updates import Diverged, Step, Update


@dataclass
class NewtonUpdate(Update):
    """theta <- theta - learning_rate (G + damping I)^-1 grad L(theta).

    The static influence update that SOUL iterates (arXiv 2404.18239, section 4; Koh & Liang 2017,
    arXiv 1703.04730, eq. 1). L: the objective over the whole sets of `course`; G: the Gauss-Newton matrix of
    `influence.GaussNewton` on `curvature_examples` examples of `curvature_data`, drawn without repetition by
    the seed (`both`: from the two sets as one pool; all where there are fewer). Autocast is for the gradient
    alone; G is always in fp32. Dropout is off throughout.

    Its row of the log has `solver_iterations`, `solver_residual` (relative, of the whole system) and
    `solver_converged` too. A solver that does not converge says so on stderr, and its step is taken. Equal
    seeds give equal bits. Raises `UserError` for weights below fp32, for curvature data without examples and
    for a model that cannot be differentiated as needed.

    Memory beside the model, in vectors of parameter size (0.54 GB for 135 million fp32 parameters): the
    gradient and, for conjugate gradients, four of the solver; LiSSA three, the diagonal up to four, ekfac
    about five. The activations of one micro-batch come on top. Each process of a group holds all of these.
    """

    model: InitVar[torch.nn.Module]
    settings: Influence
    course: WholeSets
    optimizer: torch.optim.Optimizer = field(init=False)

    def __post_init__(self, model: torch.nn.Module) -> None:
        learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
        if narrow := [p.dtype for p in learning if p.dtype not in (torch.float32, torch.float64)]:
            raise UserError(
                f"the influence step needs fp32 weights and found {narrow[0]}; set `unlearn.weights: fp32`"
            )
        self.optimizer = torch.optim.SGD(learning, self.settings.learning_rate)

    def take(self, step: Step) -> dict[str, Any]:
        training, settings = step.model.training, self.settings
        step.model.eval()
        try:
            losses = step.gradients(untouched=True)
            gradient = _flat(step.parameters)
            length = norm(gradient)
            if not (math.isfinite(losses["loss"]) and math.isfinite(length)):
                raise Diverged
            direction, report = self._direction(step, gradient)
        finally:
            step.model.train(training)
        if not report.converged and step.group.writes:
            print(
                f"influence: {settings.solver} did not converge: relative residual "
                f"{report.relative_residual:.3g} after {report.iterations} iterations, "
                f"tolerance {settings.tolerance:g} ({report.reason})",
                file=sys.stderr,
            )
        update_norm = settings.learning_rate * norm(direction)
        if not (report.finite and math.isfinite(update_norm)):
            raise Diverged
        for parameter, part in zip(step.parameters, parts(direction, step.parameters), strict=True):
            parameter.grad = part
        step.apply(self.optimizer)
        return {
            **{**losses, "grad_norm": length, "update_norm": update_norm},
            "solver_iterations": report.iterations,
            "solver_residual": report.relative_residual,
            "solver_converged": report.converged,
        }

    def _direction(self, step: Step, gradient: torch.Tensor) -> tuple[torch.Tensor, Report]:
        """The solution of the system (P,), and how well it solves it."""
        settings, course = self.settings, self.course
        batches = micro_batches(self._curvature_examples(), course.settings.batch_size, course.data.pad_id)
        generator = torch.Generator(step.device).manual_seed(derived_seed(step.seed, "labels", step.number))
        with Meter(None, "product", settings.solver, show=step.group.writes) as meter:

            def watch() -> None:
                meter.update()
                step.stop()

            return newton_direction(
                step.model,
                [batch.to(step.device) for batch in batches],
                step.parameters,
                gradient,
                cast("NewtonSettings", settings),  # a frozen block, which the protocol cannot say
                generator,
                watch,
                step.group,
            )

    def _curvature_examples(self) -> list[Example]:
        """`curvature_examples` of the chosen data, or all where there are fewer."""
        name, data, seed = self.settings.curvature_data, self.course.data, self.course.seed
        forget = forget_examples(data, range(len(data.forget)), 0, seed)
        pool = {"forget": forget, "retain": [*data.retain], "both": [*forget, *data.retain]}[name]
        if not pool:
            raise UserError(f"curvature_data is {name}, but that set is empty; choose forget, retain or both")
        generator = torch.Generator().manual_seed(derived_seed(seed, "curvature examples"))
        rows = torch.randperm(len(pool), generator=generator)[: self.settings.curvature_examples].tolist()
        return [pool[row] for row in rows]


def newton_update(
    method: Influence, model: torch.nn.Module, course: Course, training: Unlearn, group: Group
) -> NewtonUpdate:
    """The update of a model by one damped Newton step."""
    assert isinstance(course, WholeSets)
    return NewtonUpdate(model, method, course)


TAKES = newton_update


def _flat(parameters: Sequence[torch.Tensor]) -> torch.Tensor:
    """The gradient (P,), out of the parameters' `.grad`, which are free afterwards."""
    vector = torch.cat(
        [torch.zeros_like(p).view(-1) if p.grad is None else p.grad.reshape(-1) for p in parameters]
    )
    for parameter in parameters:
        parameter.grad = None
    return vector
