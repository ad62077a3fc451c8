"""A penalty on how fast the forget term's gradient turns along itself."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from pipeline_lib.core.blocks import Positive
from pipeline_lib.smoothing.base import Form, Smoothing, Step


class CurvatureRegularisation(Smoothing):
    """Forget term + strength |d|, with d = g(theta + h v) - g and v = g / |g|, h `distance`.

    Source: the paper, after CURE (Moosavi-Dezfooli et al. 2019, arXiv 1811.09716, which squares |d| and moves
    inputs). d is about h H v, H the Hessian. As in the paper's code v counts as a constant.

    `corrected`: the gradient of the penalty is (H(theta + h v) - H) u with u = d / |d|, and both products are
    measured over the same h (see `GradientPenalty`):

        (g(theta + h v + h u) - g(theta + h v) - g(theta + h u) + g) / h

    It is a third derivative from differences, so the forget set is differentiated four times, and rounding
    counts 4 strength / h times: fp32 products are advised (`unlearn.compute: fp32`).

    `as_released`: |d| passes through `.item()` and has no gradient, so it is in the logged loss alone. The
    code also goes back through the forget term before it returns the loss, and the trainer goes back again:
    the gradient is 2 g plus the retain term's, a run with twice the forget weight. The released table of
    methods does not list it. Defaults are the constants of code and script.
    """

    kind: Literal["curvature_regularisation"]
    form: Form = Field("corrected", description="as_released: no gradient, and g counts twice")
    strength: Positive = Field(10.0, description="Weight of the penalty")
    distance: Positive = Field(0.01, description="Length of the moves (L2), the h of the equations")

    needs_fp32: ClassVar[str] = "it measures the gradient's change over moves that bf16 rounds away"

    @property
    def forget_passes(self) -> int:
        return 4 if self.form == "corrected" else 2

    @property
    def last_part(self) -> Literal["total", "retain"]:
        return "retain" if self.form == "corrected" else "total"

    @property
    def copies(self) -> int:
        return 3 if self.form == "corrected" else 2  # the weights, the gradient before the move, its change

    def gradients(self, step: Step, untouched: bool) -> dict[str, float]:
        from pipeline_lib.smoothing.moves import along, held, length, moved, with_last

        step.gradients(untouched, "forget")
        first, slope, size = held(step), length(step), None
        if slope is not None:
            with moved(step, along(first, self.distance / slope)):
                step.gradients(part="forget")
            for there, here in zip(held(step), first, strict=True):
                if there is not None and here is not None:
                    there.sub_(here)
            size = length(step)
        if slope is not None and size is not None and self.form == "corrected":
            self._add_slope(step, slope, size, first)
        losses = with_last(step, first, self.last_part)
        penalty = self.strength * (size or 0.0)
        return {**losses, "loss": losses["loss"] + penalty, "penalty": penalty}

    def _add_slope(self, step, slope: float, size: float, first) -> None:
        """Add the penalty's gradient to `first`, from |g|, |d| and, in `.grad`, d."""
        from pipeline_lib.smoothing.moves import along, held, moved

        rate, bend = self.strength / self.distance, held(step)
        onwards = along(first, self.distance / slope)
        aside = along(bend, self.distance / size)
        both = (None if v is None or u is None else v + u for v, u in zip(onwards, aside, strict=True))
        with moved(step, both):
            step.gradients(part="forget")
        _add(first, held(step), rate)
        _add(first, bend, -rate)
        with moved(step, along(bend, self.distance / size)):
            step.gradients(part="forget")
        _add(first, held(step), -rate)


def _add(total, vectors, factor: float) -> None:
    for one, vector in zip(total, vectors, strict=True):
        if one is not None and vector is not None:
            one.add_(vector, alpha=factor)
