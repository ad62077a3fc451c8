"""What every smoothing is: settings, what it needs and costs, and the gradient or the average of a run.

theta: the parameters that learn (with LoRA the adapters). g: the gradient of the forget term alone, at theta
unless said otherwise, over all of theta; |g| its L2 norm. The retain term keeps its plain gradient at theta.

Source of the family: Fan et al. 2025, arXiv 2502.05374 ("the paper"; "its code": OPTML-Group/Unlearn-Smooth).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

from pipeline_lib.core.families import Method

if TYPE_CHECKING:
    from torch import Tensor
    from torch.optim import Optimizer as TorchOptimizer

    from pipeline_lib.distributed.group import Group
    from pipeline_lib.objectives import Objective
    from pipeline_lib.objectives.base import Part
else:  # for annotations, here and in the smoothings: they are read without torch
    Group = Objective = Part = Tensor = TorchOptimizer = Any

Form = Literal["as_released", "corrected"]  # of a penalty: without its gradient as in the code, or with it


class Step(Protocol):
    """What a smoothing asks of a step of training; `training.updates.Step` says what each is."""

    @property
    def number(self) -> int: ...

    @property
    def seed(self) -> int: ...

    @property
    def parameters(self) -> Sequence[Tensor]: ...

    @property
    def group(self) -> Group: ...

    def gradients(self, untouched: bool = False, part: Part = "total") -> dict[str, float]: ...


class Smoothing(Method):
    """Base of all smoothings: `gradients` in place of the plain gradient, or `stepping` around the optimiser.

    Properties say what it costs. What a step differentiates: `forget_passes` times the forget term, and last
    of all `last_part` of the objective; each time it reads all batches of the step.
    """

    needs_fp32: ClassVar[str]  # why it needs `weights: fp32`
    needs_terms: ClassVar[bool] = True  # of the forget and the retain term, apart
    kept: ClassVar[int] = 0  # fp32 copies of what learns that stay from step to step

    @property
    def forget_passes(self) -> int:
        return 0

    @property
    def last_part(self) -> Literal["total", "retain"]:
        return "retain"

    @property
    def copies(self) -> int:
        """Copies of what learns that lie beside weights and gradients during the passes of a step."""
        return 0

    def refusal(self, objective: Objective) -> str | None:
        """Why it cannot smooth this objective; None: it can."""
        if objective.terms_apart or not self.needs_terms:
            return None
        return (
            f"the smoothing {self.kind} takes the gradient of the forget term alone, and {objective.kind} "
            "has no such term; choose another objective, or an optimiser without `smoothing`"
        )

    def gradients(self, step: Step, untouched: bool) -> dict[str, float]:
        """Put the gradient of the smoothed objective into `.grad`; returns the losses, in nats.

        Where a gradient is not finite, neither is the result. The weights are the same bits before and after.
        The losses are those at theta, with what a penalty adds to "loss" under "penalty" too. `untouched`: as
        of a step's own gradients.
        """
        return step.gradients(untouched)

    def stepping(self, optimizer: TorchOptimizer, steps: int) -> TorchOptimizer:
        """The optimiser that takes the steps of a run of so many; `UserError` for a run too short."""
        return optimizer
