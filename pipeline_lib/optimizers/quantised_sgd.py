"""Compressed gradients: a step along the momentum rounded to N bits. With one bit it is Signum."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from pipeline_lib.core.blocks import NonNegative, Share
from pipeline_lib.optimizers.base import Optimizer
from pipeline_lib.optimizers.update import Group, Groups, TorchOptimizer

Bits = Annotated[int, Field(strict=True, ge=1, le=8)]


class QuantisedSGD(Optimizer):
    """m = b m + (1 - b) g; theta = (1 - lr wd) theta - lr Q(m; N).

    Q rounds m / s, with s = max |m| of the tensor, to the nearest of 2^N levels that lie evenly between -1
    and 1: the odd multiples of 1 / (2^N - 1). Halfway, the outer level is taken, and an exact 0 stays 0. A
    step is lr times values in [-1, 1] under every N, and Q(m; 1) = sign(m): this is Signum then, bit for bit.

    Source: the step theta - lr Q(m; N) with the sign as Q(m; 1) is that of arXiv 2510.00761, which leaves
    the levels for N > 1 open; those here are ours. QSGD (arXiv 1610.02132) has levels that include 0 and
    rounds at random, without bias; here rounding is to nearest, as signSGD's is (arXiv 1802.04434).
    """

    kind: Literal["quantised_sgd"]
    bits: Bits = Field(4, description="N of the levels, 1 (the sign) to 8")
    momentum: Share = 0.9
    weight_decay: NonNegative = 0.0

    display: ClassVar[str] = "Quantised SGD"
    in_parts: ClassVar[str | None] = (
        "its levels follow from the largest momentum of a whole tensor, and tensors are cut apart"
    )

    def state_bytes(self, trained: float, embedding: float, width: int) -> float:
        return trained * width

    def build(self, groups: Groups, parts: Group) -> TorchOptimizer:
        from pipeline_lib.optimizers.rounded_momentum import RoundedMomentum

        settings = {"lr": self.learning_rate, **self.model_dump(exclude={"kind", "learning_rate"})}
        return RoundedMomentum(groups, settings)
