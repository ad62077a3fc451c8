"""The torch optimiser of `muon`: Muon on matrices, torch's AdamW on the rest."""

from __future__ import annotations

from math import sqrt
from typing import Any

import torch

from pipeline_lib.distributed.group import Group
from pipeline_lib.optimizers.update import Groups

_QUINTIC = (3.4445, -4.7750, 2.0315)  # whose slope at zero is the steepest; singular values end near 1
_ITERATIONS = 5
_SMALLEST = 1e-7  # norm that a matrix is divided by at least


def orthogonalised(matrix: torch.Tensor) -> torch.Tensor:
    """U V^T of a matrix U S V^T, nearly: singular values end between about 0.7 and 1.2, as published.

    Five Newton-Schulz iterations X <- a X + (b A + c A^2) X with A = X X^T. In bf16 on a GPU, as published,
    and in fp32 on a CPU, where products in bf16 are several times slower unless it has instructions for them.
    """
    a, b, c = _QUINTIC
    wide = matrix.shape[0] <= matrix.shape[1]
    x = (matrix if wide else matrix.T).to(torch.float32 if matrix.device.type == "cpu" else torch.bfloat16)
    x = x / x.norm().clamp(min=_SMALLEST)
    for _ in range(_ITERATIONS):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x if wide else x.T


class MuonWithAdamW(torch.optim.Optimizer):
    """Muon on the first parameter group, torch's fused AdamW on the others.

    Muon (Jordan et al. 2024, kellerjordan.github.io/posts/muon): m = b m + (1 - b) g;
    theta = (1 - lr wd) theta - 0.2 sqrt(max(rows, columns)) lr O, with O the nearest orthogonal matrix
    to (1 - b) g + b m (`orthogonalised`). The factor (arXiv 2502.16982, equation 4)
    gives O the root mean square that AdamW's steps have, so that one learning rate serves both parts.

    AdamW shares this object's `state` and `param_groups`. Where processes hold parts of matrices, each
    gathers one matrix after the other, steps it, and keeps its own part.
    """

    def __init__(
        self,
        params: Groups,
        lr: float,
        momentum: float,
        betas: tuple[float, float],
        eps: float,
        weight_decay: float,
        parts: Group,
    ):
        matrices, *rest = params
        self._parts = parts
        self._adamw = torch.optim.AdamW(
            rest, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, fused=True
        )
        muon = {**matrices, "lr": lr, "momentum": momentum, "weight_decay": weight_decay}
        super().__init__([muon, *self._adamw.param_groups], {})
        self._share()

    def _share(self) -> None:
        """Let AdamW work on this object's state and groups."""
        self._adamw.param_groups = self.param_groups[1:]
        self._adamw.state = self.state

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        settings = self.param_groups[0]
        for own in settings["params"]:
            if own.grad is None:
                continue
            held = self.state[own].setdefault("momentum_buffer", torch.zeros_like(own))
            if self._parts.sharded:
                matrix, grad, momentum = (self._parts.whole(own, x) for x in (own, own.grad, held))
                _step(matrix, grad, momentum, settings)
                own.copy_(self._parts.part(own, matrix))
                held.copy_(self._parts.part(own, momentum))
            else:
                _step(own, own.grad, held, settings)
        self._adamw.step()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self._share()


def _step(matrix: torch.Tensor, grad: torch.Tensor, momentum: torch.Tensor, settings: dict[str, Any]) -> None:
    """One step of a whole matrix, in place, with its momentum."""
    b, rate = settings["momentum"], settings["lr"]
    momentum.lerp_(grad, 1 - b)
    towards = orthogonalised(grad.lerp(momentum, b))
    matrix.mul_(1 - rate * settings["weight_decay"])
    matrix.add_(towards, alpha=-0.2 * sqrt(max(matrix.shape)) * rate)
