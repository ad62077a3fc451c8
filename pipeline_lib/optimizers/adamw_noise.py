"""AdamW with noise as long as its step: whether any disturbance of that size does the same."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from pipeline_lib.core.blocks import NonNegative
from pipeline_lib.optimizers.adamw import AdamW
from pipeline_lib.optimizers.update import Group, Groups, TorchOptimizer


class AdamWNoise(AdamW):
    """theta = (1 - lr wd) theta - lr u - lr e, with u AdamW's step and e Gaussian noise (ours).

    In every tensor e is normal and independent, scaled so that |e| = noise |u| in the L2 norm of the tensor;
    so it is over all tensors too. Tensors that AdamW does not move get none. The noise of a step follows from
    the step's seed and the tensor's number: a run that is continued draws the same.
    """

    kind: Literal["adamw_noise"]  # type: ignore[assignment]
    noise: NonNegative = Field(1.0, description="Norm of the noise over the norm of AdamW's own step")

    display: ClassVar[str] = "AdamW (noise)"
    reference: ClassVar[bool] = False
    control_of: ClassVar[str | None] = "adamw"
    moves_zeros: ClassVar[bool] = True
    in_parts: ClassVar[str | None] = "its noise is drawn for whole tensors, and these are cut apart"

    def build(self, groups: Groups, parts: Group) -> TorchOptimizer:
        from pipeline_lib.optimizers.noisy_adamw import NoisyAdamW

        return NoisyAdamW(
            groups,
            self.noise,
            lr=self.learning_rate,
            betas=(self.beta1, self.beta2),
            eps=self.eps,
            weight_decay=self.weight_decay,
            fused=True,
        )
