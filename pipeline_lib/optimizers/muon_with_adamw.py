"""The torch optimiser of `muon`: two of torch's as one."""

from __future__ import annotations

from typing import Any

import torch

from pipeline_lib.core.errors import UserError
from pipeline_lib.distributed.group import Group
from pipeline_lib.optimizers.update import Groups


class MuonWithAdamW(torch.optim.Optimizer):
    """torch.optim.Muon on the first parameter group, torch's fused AdamW on the others.

    Muon (Jordan et al. 2024, kellerjordan.github.io/posts/muon): m = b m + (1 - b) g;
    theta = (1 - lr wd) theta - 0.2 sqrt(max(rows, columns)) lr O, with O the nearest orthogonal matrix
    to (1 - b) g + b m by five Newton-Schulz iterations in bf16. The factor (arXiv 2502.16982, equation 4)
    gives O the root mean square that AdamW's steps have, so that one learning rate serves both parts.

    Both parts share this object's `state` and `param_groups`. Where processes hold parts of matrices, each
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
        if not hasattr(torch.optim, "Muon"):
            raise UserError(
                f"optimiser muon needs torch 2.9 or newer, found {torch.__version__}; "
                "upgrade torch or choose another optimiser"
            )
        matrices, *rest = params
        self._parts = parts
        self._muon = torch.optim.Muon(
            [matrices], lr=lr, momentum=momentum, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw"
        )
        self._adamw = torch.optim.AdamW(
            rest, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, fused=True
        )
        super().__init__([*self._muon.param_groups, *self._adamw.param_groups], {})
        self._share()

    def _share(self) -> None:
        """Let both parts work on this object's state and groups."""
        self._muon.param_groups, self._adamw.param_groups = self.param_groups[:1], self.param_groups[1:]
        self._muon.state = self._adamw.state = self.state

    def step(self, closure: None = None) -> None:  # type: ignore[override]
        if self._parts.sharded:
            self._step_in_parts(self._parts)
        else:
            self._muon.step()
        self._adamw.step()

    @torch.no_grad()
    def _step_in_parts(self, parts: Group) -> None:
        settings = {key: value for key, value in self.param_groups[0].items() if key != "params"}
        for own in self.param_groups[0]["params"]:
            if own.grad is None:
                continue
            matrix = torch.nn.Parameter(parts.whole(own, own))
            matrix.grad = parts.whole(own, own.grad)
            muon = torch.optim.Muon([{**settings, "params": [matrix]}])
            if self.state[own]:
                muon.state[matrix] = {k: parts.whole(own, v) for k, v in self.state[own].items()}
            muon.step()
            own.copy_(parts.part(own, matrix))
            self.state[own].update({k: parts.part(own, v) for k, v in muon.state[matrix].items()})

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self._share()
