"""The torch optimiser of `adamw_4bit`."""

from __future__ import annotations

from typing import Any

import torch

from pipeline_lib.optimizers.four_bits import BLOCK, SIGNED, UNSIGNED, pack, unpack

PACKED_FROM = 4096  # elements of a tensor; as in arXiv 2309.01507, smaller ones are not worth it
PIECE = BLOCK << 9  # elements that are unpacked at a time, so that they stay in the processor's cache

CODES = {"first": SIGNED, "second": UNSIGNED}  # state -> what its 16 codes stand for


class PackedAdamW(torch.optim.Optimizer):
    """AdamW with packed averages; see `adamw_4bit.AdamW4bit`.

    A tensor's states are `step` and, where it is large, `first` and `second` in bytes with `first_scales` and
    `second_scales`.

    Why not torchao's `AdamW4bit`: it compiles every shape of tensor anew, takes no plain number as the
    learning rate, and its states are tensors of a class of their own, which safetensors does not hold.
    """

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._step(parameter, parameter.grad, group)

    def _step(self, parameter: torch.Tensor, grad: torch.Tensor, settings: dict[str, Any]) -> None:
        state, size = self.state[parameter], parameter.numel()
        wide = torch.promote_types(parameter.dtype, torch.float32)
        theta, grad = parameter.to(wide).reshape(-1), grad.to(wide).reshape(-1)
        if not state:
            state["step"] = 0
            empty = torch.zeros_like(theta)
            for name, codes in CODES.items():
                if size < PACKED_FROM:
                    state[name] = empty.clone()
                else:
                    state[name], state[f"{name}_scales"] = pack(empty.float(), codes)
        state["step"] += 1
        if size < PACKED_FROM:
            _advance(theta, grad, state["first"], state["second"], state["step"], settings)
        else:
            for start in range(0, size, PIECE):
                _step_piece(theta, grad, slice(start, min(start + PIECE, size)), state, settings)
        parameter.copy_(theta.view(parameter.shape))

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """torch's own casts every state to the type of the weights; bytes and scales keep theirs."""
        super().load_state_dict(state_dict)
        held = [parameter for group in self.param_groups for parameter in group["params"]]
        for index, state in state_dict["state"].items():
            self.state[held[index]] = {
                key: int(value) if key == "step" else value.to(held[index].device, copy=True)
                for key, value in state.items()
            }


def _step_piece(
    theta: torch.Tensor,
    grad: torch.Tensor,
    piece: slice,
    state: dict[str, Any],
    settings: dict[str, Any],
) -> None:
    """One step of these elements of a flat tensor; a piece begins with a block."""
    blocks = slice(piece.start // BLOCK, -(-piece.stop // BLOCK))
    pairs = slice(blocks.start * BLOCK // 2, blocks.stop * BLOCK // 2)
    held = {name: (state[name][pairs], state[f"{name}_scales"][blocks]) for name in CODES}
    size = piece.stop - piece.start
    first, second = (unpack(*held[name], codes, size).to(theta.dtype) for name, codes in CODES.items())
    _advance(theta[piece], grad[piece], first, second, state["step"], settings)
    for name, average in zip(CODES, (first, second), strict=True):
        for old, new in zip(held[name], pack(average.float(), CODES[name]), strict=True):
            old.copy_(new)


def _advance(
    theta: torch.Tensor,
    grad: torch.Tensor,
    first: torch.Tensor,
    second: torch.Tensor,
    step: int,
    settings: dict[str, Any],
) -> None:
    """AdamW's step number `step` (from 1) of flat tensors, in place."""
    beta1, beta2 = settings["betas"]
    first.lerp_(grad, 1 - beta1)
    second.mul_(beta2).addcmul_(grad, grad, value=1 - beta2)
    root = (second / (1 - beta2**step)).sqrt_().add_(settings["eps"])
    theta.mul_(1 - settings["lr"] * settings["weight_decay"])
    theta.addcdiv_(first, root, value=-settings["lr"] / (1 - beta1**step))
