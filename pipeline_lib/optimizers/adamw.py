"""AdamW, torch's own."""

from __future__ import annotations

from typing import ClassVar, Literal

from pipeline_lib.core.blocks import NonNegative, Positive, Share
from pipeline_lib.optimizers.base import Optimizer
from pipeline_lib.optimizers.update import Group, Groups, TorchOptimizer


class AdamW(Optimizer):
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019, arXiv 1711.05101, algorithm 2)."""

    kind: Literal["adamw"]
    beta1: Share = 0.9
    beta2: Share = 0.999
    eps: Positive = 1e-8
    weight_decay: NonNegative = 0.0

    display: ClassVar[str] = "AdamW"
    reference: ClassVar[bool] = True

    def state_bytes(self, trained: float, embedding: float, width: int) -> float:
        return 2.0 * trained * width

    def build(self, groups: Groups, parts: Group) -> TorchOptimizer:
        import torch

        return torch.optim.AdamW(
            groups,
            lr=self.learning_rate,
            betas=(self.beta1, self.beta2),
            eps=self.eps,
            weight_decay=self.weight_decay,
            fused=True,
        )
