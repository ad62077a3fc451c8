"""Muon for matrices within the layers, AdamW for everything else."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from pipeline_lib.core.blocks import NonNegative, Positive, Share
from pipeline_lib.optimizers.base import Optimizer
from pipeline_lib.optimizers.update import Group, Groups, TorchOptimizer


class Muon(Optimizer):
    """Muon for matrices within the layers, AdamW for embeddings and vectors, at one learning rate."""

    kind: Literal["muon"]
    momentum: Share = 0.95
    beta1: Share = Field(0.9, description="Of AdamW's part")
    beta2: Share = Field(0.999, description="Of AdamW's part")
    eps: Positive = Field(1e-8, description="Of AdamW's part")
    weight_decay: NonNegative = 0.0

    display: ClassVar[str] = "Muon"
    moves_zeros: ClassVar[bool] = True
    layers_apart: ClassVar[bool] = True

    def state_bytes(self, trained: float, embedding: float, width: int) -> float:
        return (trained + min(embedding, trained)) * width  # AdamW's second average for embeddings alone

    def build(self, groups: Groups, parts: Group) -> TorchOptimizer:
        from pipeline_lib.optimizers.muon_with_adamw import MuonWithAdamW

        return MuonWithAdamW(
            groups,
            self.learning_rate,
            self.momentum,
            (self.beta1, self.beta2),
            self.eps,
            self.weight_decay,
            parts,
        )
