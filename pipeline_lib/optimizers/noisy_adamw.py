"""The torch optimiser of `adamw_noise`."""

from __future__ import annotations

import random
from typing import Any

import torch

from pipeline_lib.optimizers.update import Groups


class NoisyAdamW(torch.optim.AdamW):
    """torch's AdamW, then noise on every tensor, `noise` times as long as the step it made there.

    The seed is that of torch's global generator, which the loop sets anew for every step; from the generator
    itself nothing is drawn. Working memory: three copies of the largest tensor.
    """

    def __init__(self, params: Groups, noise: float, **settings: Any):
        super().__init__(params, **settings)
        self._noise = noise

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        super().step()
        held = [(group, p) for group in self.param_groups for p in group["params"]]
        for number, (group, parameter) in enumerate(held):
            if parameter.grad is not None:
                parameter.add_(self._drawn(group, parameter, number), alpha=-group["lr"])

    def _drawn(self, group: dict[str, Any], parameter: torch.Tensor, number: int) -> torch.Tensor:
        """The noise e of one tensor, in its shape; the caller multiplies it by the learning rate."""
        state, (beta1, beta2) = self.state[parameter], group["betas"]
        taken = float(state["step"])
        wide = torch.promote_types(parameter.dtype, torch.float32)
        root = (state["exp_avg_sq"].to(wide) / (1 - beta2**taken)).sqrt_().add_(group["eps"])
        own = state["exp_avg"].to(wide).div(1 - beta1**taken).div_(root)
        seed = random.Random(f"{torch.initial_seed()}/{number}").getrandbits(63)
        generator = torch.Generator(parameter.device).manual_seed(seed)
        drawn = torch.randn(parameter.shape, generator=generator, dtype=wide, device=parameter.device)
        # Sums, not norms: torch's norm adds one by one on a CPU, and millions of terms lose digits.
        scale = self._noise * (own.square().sum() / drawn.square().sum()).sqrt()
        return drawn.mul_(scale)
