"""AdamW with 8-bit states, from the optional package bitsandbytes."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pipeline_lib.core.blocks import NonNegative, Positive, Share
from pipeline_lib.optimizers.base import Optimizer
from pipeline_lib.optimizers.update import Groups

if TYPE_CHECKING:
    import torch

    from pipeline_lib.distributed.group import Group


class AdamW8bit(Optimizer):
    """AdamW with 8-bit states; needs the optional extra `eightbit`."""

    kind: Literal["adamw_8bit"]
    beta1: Share = 0.9
    beta2: Share = 0.999
    eps: Positive = 1e-8
    weight_decay: NonNegative = 0.0

    display: ClassVar[str] = "AdamW (8bit)"
    in_parts: ClassVar[str | None] = (
        "its 8-bit states share a scale among 256 neighbours, and these are cut apart"
    )

    def state_bytes(self, trained: float, embedding: float, width: int) -> float:
        return 2.0 * trained * (1 + 4 / 256)  # a byte an element, and one scale for 256 of them

    def build(self, groups: Groups, parts: Group) -> torch.optim.Optimizer:
        from pipeline_lib.optimizers.eight_bit import adamw_8bit

        return adamw_8bit(groups, self.learning_rate, self.beta1, self.beta2, self.eps, self.weight_decay)
