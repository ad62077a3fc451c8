"""AdamW with 4-bit states."""

from __future__ import annotations

from typing import ClassVar, Literal

from pipeline_lib.optimizers.adamw import AdamW
from pipeline_lib.optimizers.update import Group, Groups, TorchOptimizer


class AdamW4bit(AdamW):
    """AdamW whose two averages are stored in 4 bits a value, two values a byte.

    Li et al. 2023, arXiv 2309.01507, algorithm 1 with the normalisation by blocks (section 3 and 4.1): 128
    neighbours share one fp32 scale, the first average has the signed dynamic exponent codes and the second
    one linear codes without zero; rank-1 scales of the second are not implemented. Each step is computed
    from the unpacked averages, in fp32, before they are packed again. Tensors of fewer than 4096 elements
    keep fp32 states.
    """

    kind: Literal["adamw_4bit"]  # type: ignore[assignment]

    display: ClassVar[str] = "AdamW (4bit)"
    reference: ClassVar[bool] = False
    in_parts: ClassVar[str | None] = (
        "its 4-bit states share a scale among 128 neighbours, and these are cut apart"
    )

    def state_bytes(self, trained: float, embedding: float, width: int) -> float:
        return 2.0 * trained * (1 / 2 + 4 / 128)  # half a byte an element, and one scale for 128 of them

    def build(self, groups: Groups, parts: Group) -> TorchOptimizer:
        from pipeline_lib.optimizers.packed_adamw import PackedAdamW

        betas = (self.beta1, self.beta2)
        settings = {
            "lr": self.learning_rate,
            "betas": betas,
            **self.model_dump(include={"eps", "weight_decay"}),
        }
        return PackedAdamW(groups, settings)
