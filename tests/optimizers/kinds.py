"""Every kind that steps along the gradient, with settings to test it, and why one cannot be made here."""

from __future__ import annotations

import importlib.util
from typing import Any

import pytest
import torch

from pipeline_lib.optimizers import OPTIMIZERS
from tests.methods import make_optimizer

SETTINGS: dict[str, dict[str, Any]] = {
    "adamw": {"beta1": 0.9, "beta2": 0.999, "eps": 1e-8},
    "adamw_4bit": {"beta1": 0.9, "beta2": 0.999, "eps": 1e-8},
    "adamw_8bit": {"beta1": 0.9, "beta2": 0.999, "eps": 1e-8},
    "adamw_noise": {"beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "noise": 0.5},
    "sgd": {"momentum": 0.9},
    "signum": {"momentum": 0.9},
    "quantised_sgd": {"momentum": 0.9, "bits": 3},
    "soap": {"beta1": 0.9, "beta2": 0.8, "eps": 1e-8, "basis_every": 2, "largest_side": 64},
    "lion": {"beta1": 0.9, "beta2": 0.99},
    "muon": {"momentum": 0.95, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8},
    "sophia": {"beta1": 0.96, "beta2": 0.9, "gamma": "auto", "clipped_target": 0.5, "eps": 1e-12},
    "sophia_as_released": {"beta1": 0.9, "beta2": 0.95, "rho": 0.04},
}

CONTROLS = ["permuted_curvature", "mean_curvature", "sign_of_equal_norm"]  # of both kinds of Sophia
SOPHIAS: dict[str, dict[str, Any]] = {  # with settings under which some coordinates are clipped at once
    "sophia": {"gamma": 20.0, "clipped_target": None},
    "sophia_as_released": {"rho": 1e-3},
}

needs_bitsandbytes = pytest.mark.skipif(
    importlib.util.find_spec("bitsandbytes") is None, reason="the optional extra eightbit is not installed"
)
needs_pytorch_optimizer = pytest.mark.skipif(
    importlib.util.find_spec("pytorch_optimizer") is None, reason="the optional extra soap is not installed"
)
PACKAGED = {"adamw_8bit": needs_bitsandbytes, "soap": needs_pytorch_optimizer}  # of optional packages
KINDS = [
    pytest.param(kind, marks=[PACKAGED[kind]] if kind in PACKAGED else [])
    for kind, method in OPTIMIZERS.kinds().items()
    if method.taken_by is None
]
NEED_FP32 = [kind for kind in KINDS if isinstance(OPTIMIZERS.kinds()[str(kind.values[0])].needs_fp32, str)]
OURS = [kind for kind, method in OPTIMIZERS.kinds().items() if method.elementwise]  # each with a Triton twin


def optimizer_of(kind: str, model: torch.nn.Module, learning_rate: float = 1e-2, **more: Any) -> Any:
    """The optimiser of this kind with weight decay 0.25."""
    settings = {"learning_rate": learning_rate, "weight_decay": 0.25, **SETTINGS[kind], **more}
    return make_optimizer(kind, model, **settings)


def gradients(model: torch.nn.Module, step: int) -> list[torch.Tensor]:
    """One tensor a parameter of `model`, of sizes from 1e-4 to 1; sets them as gradients too."""
    generator = torch.Generator().manual_seed(step)
    for parameter in model.parameters():
        draw = torch.randn(parameter.shape, generator=generator)
        size = 10 ** (-4 * torch.rand(parameter.shape, generator=generator))
        parameter.grad = (draw * size).to(parameter.dtype)
    return [parameter.grad for parameter in model.parameters()]


def take_step(optimizer: Any, model: torch.nn.Module, step: int) -> None:
    """One step as the loop takes it: seeded, curvature first where the optimiser averages one."""
    torch.manual_seed(1000 + step)  # another stream than the gradients'
    gradients(model, step)
    if "estimates" in optimizer.param_groups[0]:
        held = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        optimizer.update_curvature([parameter.grad.square() for parameter in held])
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
