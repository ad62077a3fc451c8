"""The mean of the weights on the last stretch of the way."""

from __future__ import annotations

import math
from typing import ClassVar, Literal

from pydantic import Field

from pipeline_lib.core.blocks import Count, Fraction
from pipeline_lib.core.errors import UserError
from pipeline_lib.smoothing.base import Smoothing, TorchOptimizer


class WeightAveraging(Smoothing):
    """theta_mean = the mean of theta after the steps start, start + every, start + 2 every, ...

    Source: Izmailov et al. 2018, arXiv 1803.05407, algorithm 1, with the constant or decaying rate of
    the run in place of cycles. The mean is what comes out of the run, and what is judged on its way, from its
    first weights on; training itself goes on from theta and is that of the plain run. Steps count from 1. The
    mean is in fp32 and in every checkpoint. With LoRA the adapters' two factors are averaged, each apart.

    Defaults are those of the paper's code: step 100 of 125, every 5. It averages in bf16.
    """

    kind: Literal["weight_averaging"]
    start: Count | Fraction = Field(
        0.8, description="First step that counts; a number below 1 is that share of the run's steps"
    )
    every: Count = Field(5, description="Steps from one to the next")

    needs_fp32: ClassVar[str] = "a mean of weights lies between the numbers that bf16 has"
    needs_terms: ClassVar[bool] = False
    kept: ClassVar[int] = 1

    @property
    def last_part(self) -> Literal["total", "retain"]:
        return "total"

    def stepping(self, optimizer: TorchOptimizer, steps: int) -> TorchOptimizer:
        from pipeline_lib.smoothing.averaging import Averaging

        start = self.start if isinstance(self.start, int) else math.ceil(self.start * steps)
        if start > steps:
            raise UserError(
                f"the smoothing weight_averaging starts at step {start}, and the run has {steps}; choose an "
                "earlier `start`, or a share such as 0.8"
            )
        return Averaging(optimizer, start, self.every)
