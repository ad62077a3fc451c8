"""Randomised smoothing of the forget term: its mean over a cloud around the weights."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import ClassVar, Literal

from pydantic import Field

from pipeline_lib.core.blocks import Count, Positive
from pipeline_lib.smoothing.base import Smoothing, Step, Tensor


class RandomSmoothing(Smoothing):
    """The mean of the forget term's gradient at theta + sigma z over `draws` z, each entry normal.

    Source: the paper, after Cohen et al. 2019, arXiv 1902.02918, with noise on weights in place of inputs.
    Defaults are those of its code. The expected length of a move is sigma sqrt(P) for P parameters, 1.2 for
    135 million: the same sigma moves a larger model further. z follows from the run's seed, the step, the
    draw and the tensor's number, and is the same in every process and after a restart.
    """

    kind: Literal["random_smoothing"]
    sigma: Positive = Field(1e-4, description="Standard deviation of the noise on each weight")
    draws: Count = Field(3, description="Places at which the gradient is taken")

    needs_fp32: ClassVar[str] = "its noise is lost in the rounding of bf16"
    in_parts: ClassVar[str | None] = "its noise is drawn for whole tensors, and these are cut apart"

    @property
    def forget_passes(self) -> int:
        return self.draws

    @property
    def copies(self) -> int:
        return 2  # the weights, and the sum of the gradients so far

    def gradients(self, step: Step, untouched: bool) -> dict[str, float]:
        from pipeline_lib.smoothing.moves import held, moved, with_last

        total: list[Tensor | None] = [None] * len(step.parameters)
        for draw in range(self.draws):
            with moved(step, self._noise(step, draw)):
                step.gradients(part="forget")
            for number, found in enumerate(held(step)):
                if found is not None:
                    found.div_(self.draws)
                    total[number] = found if (before := total[number]) is None else before.add_(found)
        return with_last(step, total, self.last_part)

    def _noise(self, step: Step, draw: int) -> Iterator[Tensor]:
        import torch

        for number, parameter in enumerate(step.parameters):
            seed = random.Random(f"{step.seed}/{step.number}/{draw}/{number}").getrandbits(63)
            generator = torch.Generator(parameter.device).manual_seed(seed)
            noise = torch.empty_like(parameter, requires_grad=False)
            yield noise.normal_(0.0, self.sigma, generator=generator)
