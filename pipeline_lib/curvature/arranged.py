"""Estimates whose values stay and whose places go: what is left of a curvature without its pattern."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from torch import Tensor

    from pipeline_lib.distributed.group import Group
else:  # for annotations: optimisers, which hold this, are read without torch
    Group = Tensor = Any


@dataclass(frozen=True)
class Arrangement:
    """What is done to every estimate before it is averaged, one tensor at a time.

    "permuted": the values change places, by a permutation that follows from `seed` and the tensor's number
    and is the same at every estimate. "mean": every value becomes the mean of its tensor. Both are linear, so
    that the average of arranged estimates is the arranged average.
    """

    how: Literal["permuted", "mean"]
    seed: int

    def of(self, values: Tensor, parameter: Tensor, number: int, group: Group) -> Tensor:
        """The arranged values, in the same shape; `number`: of the parameter in its optimiser.

        `group`: the processes that hold the parameter, each perhaps only a part of it.
        """
        import torch

        whole = group.whole(parameter, values)
        if self.how == "mean":
            arranged = whole.double().mean().to(whole.dtype).expand_as(whole)
        else:
            drawn = torch.Generator(whole.device)
            drawn.manual_seed(random.Random(f"{self.seed}/{number}").getrandbits(63))
            order = torch.randperm(whole.numel(), generator=drawn, device=whole.device)
            arranged = whole.reshape(-1)[order].view(whole.shape)
        return group.part(parameter, arranged)
