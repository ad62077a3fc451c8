"""How it is minimised. A new optimiser is one file and one line in `OPTIMIZERS`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from pipeline_lib.distributed.group import ALONE, Group
from pipeline_lib.errors import UserError
from pipeline_lib.optimizers.eight_bit import adamw_8bit
from pipeline_lib.optimizers.elementwise import ElementwiseOptimizer
from pipeline_lib.optimizers.lion import Lion
from pipeline_lib.optimizers.muon import MuonWithAdamW
from pipeline_lib.optimizers.offload import OnHost
from pipeline_lib.optimizers.rounding import StochasticRounding
from pipeline_lib.optimizers.sgd import SGD
from pipeline_lib.optimizers.signum import Signum
from pipeline_lib.optimizers.sophia import Sophia, SophiaAsReleased


def _adamw(params: Any, lr: float, beta1: float, beta2: float, eps: float, weight_decay: float):
    return torch.optim.AdamW(
        params, lr=lr, betas=(beta1, beta2), eps=eps, weight_decay=weight_decay, fused=True
    )


OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "adamw": _adamw,
    "adamw_8bit": adamw_8bit,
    "sgd": SGD,
    "signum": Signum,
    "lion": Lion,
    "muon": MuonWithAdamW,
    "sophia": Sophia,
    "sophia_as_released": SophiaAsReleased,
}


def parameter_groups(
    model: torch.nn.Module, weight_decay: float, layers_apart: bool = False
) -> list[dict[str, Any]]:
    """Decay matrices, not vectors (norm scales, biases): the same for every optimiser.

    `layers_apart`: two-dimensional weights that are not embeddings (input or output) come first, in a
    group of their own, decayed as the others.
    """
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    decayed = [p for p in trainable if p.dim() >= 2]
    groups = [decayed]
    if layers_apart:
        embeddings = _embeddings(model)
        layers = [p for p in decayed if p.dim() == 2 and id(p) not in embeddings]
        chosen = {id(p) for p in layers}
        groups = [layers, [p for p in decayed if id(p) not in chosen]]
    return [
        *({"params": group, "weight_decay": weight_decay} for group in groups),
        {"params": [p for p in trainable if p.dim() < 2], "weight_decay": 0.0},
    ]


def _embeddings(model: torch.nn.Module) -> set[int]:
    modules = [module for module in model.modules() if isinstance(module, torch.nn.Embedding)]
    output = getattr(model, "get_output_embeddings", lambda: None)()
    return {id(p) for module in (*modules, *([output] if output else [])) for p in module.parameters()}


def make_optimizer(
    kind: str,
    model: torch.nn.Module,
    *,
    learning_rate: float,
    weight_decay: float,
    stochastic_rounding: bool = False,
    offload: bool = False,
    group: Group = ALONE,
    **settings: Any,
) -> torch.optim.Optimizer:
    """The optimiser of this kind over the trainable parameters of `model`.

    `stochastic_rounding`: for a bf16 model, see `StochasticRounding`. `offload`: see `OnHost`. `group`: whose
    part of the parameters the optimiser works on.
    """
    groups = parameter_groups(model, weight_decay, layers_apart=kind == "muon")
    for settings_of_some in groups:
        settings_of_some["params"] = [group.held(parameter) for parameter in settings_of_some["params"]]
    make = partial(OPTIMIZERS[kind], lr=learning_rate, weight_decay=weight_decay, **settings)
    if offload and group.sharded:
        raise UserError(
            "`offload` and sharding exclude each other: parts of states lie on every GPU already; "
            "take more processes, or leave one of the two out"
        )
    inner = partial(StochasticRounding, make_inner=make) if stochastic_rounding else make
    optimizer = OnHost(groups, inner) if offload else inner(groups)
    stepper: torch.optim.Optimizer = optimizer
    while hasattr(stepper, "inner"):
        stepper = stepper.inner
    if isinstance(stepper, ElementwiseOptimizer):
        stepper.over_parts = group.over_parts
    elif isinstance(stepper, MuonWithAdamW) and group.sharded:
        stepper.parts = group
    return optimizer


__all__ = ["OPTIMIZERS", "make_optimizer", "parameter_groups"]
