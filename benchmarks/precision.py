"""What a step really does to bf16 weights: how many it moves, and how far in the mean.

Weights drawn as in a transformer, N(0, 0.02^2). One Signum step without momentum: every weight is meant
to move by the learning rate, up or down.
"""

from __future__ import annotations

import torch

from pipeline_lib.optimizers.make import make_optimizer
from pipeline_lib.optimizers.signum import Signum

SIZE, STD = 1 << 22, 0.02
STEPS = (1e-6, 2e-6, 5e-6, 1e-5, 2e-5, 5e-5, 1e-4, 1e-3)
WAYS = {
    "fp32": (torch.float32, False),
    "bf16 nearest": (torch.bfloat16, False),
    "bf16 stochastic": (torch.bfloat16, True),
}


def step(rate: float, dtype: torch.dtype, stochastic: bool) -> tuple[float, float]:
    """The share of weights that moved, and the mean movement in the direction meant, over `rate`."""
    generator = torch.Generator().manual_seed(0)
    model = torch.nn.ParameterList([(STD * torch.randn(SIZE, generator=generator)).to(dtype)])
    (weights,) = model.parameters()
    direction = torch.randn(SIZE, generator=generator).sign()
    before = weights.detach().double()
    signum = Signum(kind="signum", learning_rate=rate, momentum=0.0)
    optimizer = make_optimizer(signum, model, stochastic)
    weights.grad = -direction.to(dtype)
    optimizer.step()
    moved = weights.detach().double() - before
    return float((moved != 0).double().mean()), float((moved * direction).mean()) / rate


def main() -> None:
    torch.manual_seed(0)
    print(f"{SIZE} weights from N(0, {STD}^2): share moved by a step, and mean movement / intended")
    print(f"{'step':<8}" + "".join(f"{name:>24}" for name in WAYS))
    for rate in STEPS:
        cells = (step(rate, *way) for way in WAYS.values())
        print(f"{rate:<8.0e}" + "".join(f"{share:>15.1%}{mean:>9.3f}" for share, mean in cells))


if __name__ == "__main__":
    main()
