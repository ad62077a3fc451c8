"""Muon for the matrices within the layers, AdamW for everything else, as one optimiser."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from pipeline_lib.errors import UserError


class MuonWithAdamW(torch.optim.Optimizer):
    """torch.optim.Muon on the first parameter group, torch's fused AdamW on the others.

    Muon (Jordan et al. 2024, kellerjordan.github.io/posts/muon): m = b m + (1 - b) g;
    theta = (1 - lr wd) theta - 0.2 sqrt(max(rows, columns)) lr O, with O the nearest orthogonal matrix
    to (1 - b) g + b m by five Newton-Schulz iterations in bf16. The factor (arXiv 2502.16982, equation 4)
    gives O the root mean square that AdamW's steps have, so that one learning rate serves both parts.

    Both parts share this object's `state` and `param_groups`.
    """

    def __init__(
        self,
        params: Sequence[dict[str, Any]],
        lr: float,
        momentum: float,
        beta1: float,
        beta2: float,
        eps: float,
        weight_decay: float,
    ):
        if not hasattr(torch.optim, "Muon"):
            raise UserError(
                f"optimiser muon needs torch 2.9 or newer, found {torch.__version__}; "
                "upgrade torch or choose another optimiser"
            )
        matrices, *rest = params
        self._muon = torch.optim.Muon(
            [matrices], lr=lr, momentum=momentum, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw"
        )
        self._adamw = torch.optim.AdamW(
            rest, lr=lr, betas=(beta1, beta2), eps=eps, weight_decay=weight_decay, fused=True
        )
        super().__init__([*self._muon.param_groups, *self._adamw.param_groups], {})
        self._share()

    def _share(self) -> None:
        """Let both parts work on this object's state and groups."""
        self._muon.param_groups, self._adamw.param_groups = self.param_groups[:1], self.param_groups[1:]
        self._muon.state = self._adamw.state = self.state

    def step(self, closure: None = None) -> None:  # type: ignore[override]
        self._muon.step()
        self._adamw.step()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self._share()
