"""How it is minimised. A new optimiser is one file and one line in `OPTIMIZERS`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from pipeline_lib.optimizers.signum import Signum
from pipeline_lib.optimizers.sophia import Sophia, SophiaAsReleased


def _adamw(params: Any, lr: float, beta1: float, beta2: float, eps: float, weight_decay: float):
    return torch.optim.AdamW(
        params, lr=lr, betas=(beta1, beta2), eps=eps, weight_decay=weight_decay, fused=True
    )


OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "adamw": _adamw,
    "signum": Signum,
    "sophia": Sophia,
    "sophia_as_released": SophiaAsReleased,
}


def parameter_groups(model: torch.nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Decay matrices, not vectors (norm scales, biases): the same for every optimiser."""
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return [
        {"params": [p for p in trainable if p.dim() >= 2], "weight_decay": weight_decay},
        {"params": [p for p in trainable if p.dim() < 2], "weight_decay": 0.0},
    ]


def make_optimizer(
    kind: str, model: torch.nn.Module, *, weight_decay: float = 0.0, learning_rate: float, **settings: Any
) -> torch.optim.Optimizer:
    """The optimiser of this kind over the trainable parameters of `model`."""
    groups = parameter_groups(model, weight_decay)
    return OPTIMIZERS[kind](groups, lr=learning_rate, weight_decay=weight_decay, **settings)


__all__ = ["OPTIMIZERS", "make_optimizer", "parameter_groups"]
