"""A penalty on the length of the forget term's gradient."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from pipeline_lib.core.blocks import Positive
from pipeline_lib.smoothing.base import Form, Smoothing, Step


class GradientPenalty(Smoothing):
    """Forget term + strength |g|.

    `corrected`: the gradient of the penalty is H g / |g|, H the Hessian of the forget term, measured as
    (g(theta + distance g / |g|) - g) / distance (Zhao et al. 2022, arXiv 2202.03599). So any attention
    kernel, autocast and sharding do, and no graph is kept, where a second backward pass needs the plain
    kernel and twice the memory. With strength = distance the step is that of SAM with that rho; rounding in
    the two gradients counts strength / distance times, which matters in bf16 autocast.

    `as_released`: the paper's code adds the norm up through `.item()`, as a plain number. The penalty
    is in the logged loss, the gradient is the plain one, and so are the weights, to the bit. Its strength is
    0.01, written into the code; the setting that its script sets to 10 is not read.
    """

    kind: Literal["gradient_penalty"]
    form: Form = Field("corrected", description="as_released: the penalty has no gradient, as in the code")
    strength: Positive = Field(0.01, description="Weight of the penalty")
    distance: Positive = Field(
        0.01, description="Move (L2) over which the gradient's change is measured; `form: corrected` alone"
    )

    needs_fp32: ClassVar[str] = "it measures the gradient's change over moves that bf16 rounds away"

    @property
    def forget_passes(self) -> int:
        return 2 if self.form == "corrected" else 1

    @property
    def last_part(self) -> Literal["total", "retain"]:
        return "retain" if self.form == "corrected" else "total"

    @property
    def copies(self) -> int:
        return 2 if self.form == "corrected" else 0  # the weights, and the gradient before the move

    def gradients(self, step: Step, untouched: bool) -> dict[str, float]:
        from pipeline_lib.smoothing.moves import along, held, length, moved, with_last

        step.gradients(untouched, "forget")
        slope = length(step)
        if self.form == "as_released":
            losses = step.gradients(untouched)
        else:
            if slope is not None:
                first, share = held(step), self.strength / self.distance
                with moved(step, along(first, self.distance / slope)):
                    step.gradients(part="forget")
                for there, here in zip(held(step), first, strict=True):
                    if there is not None and here is not None:
                        there.mul_(share).add_(here, alpha=1 - share)
            losses = with_last(step, held(step), self.last_part)
        penalty = self.strength * (slope or 0.0)
        return {**losses, "loss": losses["loss"] + penalty, "penalty": penalty}
