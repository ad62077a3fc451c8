"""From an optimiser's settings to the torch optimiser of a model."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch

from pipeline_lib.core.errors import UserError
from pipeline_lib.distributed.group import ALONE, Group
from pipeline_lib.optimizers.base import Optimizer
from pipeline_lib.optimizers.offload import OnHost
from pipeline_lib.optimizers.rounding import StochasticRounding


def parameter_groups(
    model: torch.nn.Module, weight_decay: float, layers_apart: bool = False
) -> list[dict[str, Any]]:
    """Groups in which matrices decay and vectors (norm scales, biases) do not, as for every optimiser.

    `layers_apart`: two-dimensional weights that are not embeddings (input or output) come first, in a group
    of their own that decays as the other matrices do.
    """
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    decayed = [p for p in trainable if p.dim() >= 2]
    groups = [decayed]
    if layers_apart:
        modules = [module for module in model.modules() if isinstance(module, torch.nn.Embedding)]
        output = getattr(model, "get_output_embeddings", lambda: None)()
        modules += [output] if output else []
        embeddings = {id(p) for module in modules for p in module.parameters()}
        layers = [p for p in decayed if p.dim() == 2 and id(p) not in embeddings]
        chosen = {id(p) for p in layers}
        groups = [layers, [p for p in decayed if id(p) not in chosen]]
    return [
        *({"params": group, "weight_decay": weight_decay} for group in groups),
        {"params": [p for p in trainable if p.dim() < 2], "weight_decay": 0.0},
    ]


def make_optimizer(
    method: Optimizer,
    model: torch.nn.Module,
    stochastic_rounding: bool = False,
    offload: bool = False,
    group: Group = ALONE,
) -> torch.optim.Optimizer:
    """The optimiser over the trainable parameters of `model`.

    `stochastic_rounding`: for a bf16 model, see `StochasticRounding`. `offload`: see `OnHost`. `group`: whose
    part of the parameters the optimiser works on.
    """
    if offload and group.sharded:
        raise UserError(
            "`offload` and sharding exclude each other: parts of states lie on every GPU already; "
            "take more processes, or leave one of the two out"
        )
    if stochastic_rounding and method.needs_fp32 is not None:
        raise UserError(f"{method.kind} cannot step bf16 weights block by block: {method.needs_fp32}")
    groups = [
        {**some, "params": [group.held(parameter) for parameter in some["params"]]}
        for some in parameter_groups(model, getattr(method, "weight_decay", 0.0), method.layers_apart)
    ]
    make = partial(method.build, parts=group)
    inner = partial(StochasticRounding, make_inner=make) if stochastic_rounding else make
    return OnHost(groups, inner) if offload else inner(groups)
