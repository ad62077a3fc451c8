"""Sharpness-aware minimisation of the forget term."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from pipeline_lib.core.blocks import Positive
from pipeline_lib.smoothing.base import Smoothing, Step


class SAM(Smoothing):
    """The forget term's gradient at theta + rho g / |g|, where the term is about as large as it gets nearby.

    Source: Foret et al. 2021, arXiv 2010.01412, equations 2 and 3; the paper perturbs the forget term alone,
    as here. The default is that of its code, which runs in bf16 and subtracts what it added, so that much of
    so short a move is lost and weights drift; here weights are fp32 and come back from a copy.
    """

    kind: Literal["sam"]
    rho: Positive = Field(0.01, description="Length of the move (L2, over all that learns)")

    needs_fp32: ClassVar[str] = "moves of this length are lost in the rounding of bf16"

    @property
    def forget_passes(self) -> int:
        return 2

    @property
    def copies(self) -> int:
        return 1

    def gradients(self, step: Step, untouched: bool) -> dict[str, float]:
        from pipeline_lib.smoothing.moves import along, held, length, moved, with_last

        step.gradients(untouched, "forget")
        slope = length(step)
        if slope is not None:
            with moved(step, along(held(step), self.rho / slope)):
                step.gradients(part="forget")
        return with_last(step, held(step), self.last_part)
