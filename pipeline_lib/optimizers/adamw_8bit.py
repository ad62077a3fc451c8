"""AdamW with 8-bit states, from the optional package bitsandbytes."""

from __future__ import annotations

from typing import ClassVar, Literal

from pipeline_lib.optimizers.adamw import AdamW
from pipeline_lib.optimizers.update import Group, Groups, TorchOptimizer


class AdamW8bit(AdamW):
    """AdamW with 8-bit states; needs the optional extra `eightbit`."""

    kind: Literal["adamw_8bit"]  # type: ignore[assignment]

    display: ClassVar[str] = "AdamW (8bit)"
    in_parts: ClassVar[str | None] = (
        "its 8-bit states share a scale among 256 neighbours, and these are cut apart"
    )

    def state_bytes(self, trained: float, embedding: float, width: int) -> float:
        return 2.0 * trained * (1 + 4 / 256)  # a byte an element, and one scale for 256 of them

    def build(self, groups: Groups, parts: Group) -> TorchOptimizer:
        from pipeline_lib.optimizers.eight_bit import adamw_8bit

        return adamw_8bit(groups, self.learning_rate, self.beta1, self.beta2, self.eps, self.weight_decay)
