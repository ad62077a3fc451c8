"""Low-rank adapters (LoRA) in a model: put in, switched off for a while, merged into plain weights.

W + (alpha / rank) B A in place of the weight W (out, in) of a linear layer; A (rank, in) and B (out, rank)
are trained, W is not. Source: Hu et al. 2021, arXiv 2106.09685, section 4.1. The layers are peft's; the model
stays the same object, and everything that reads hidden states or logits works as before.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from pipeline_lib.core.errors import UserError
from pipeline_lib.models.reduced import Int8Linear

SHOWN = 8  # how many names an error lists


def attach(
    model: Any,
    rank: int,
    alpha: float,
    dropout: float,
    target: str | Sequence[str],
    seed: int,
    trained: Sequence[str] | None = None,
) -> None:
    """Put adapters into `model`, in place; from then on only they require gradients.

    `target`: "all-linear" is every linear layer but the output embedding; else the last parts of layers'
    names ("q_proj"). `trained`: names of weights before this call; only the adapters of these are trained
    (None = all). A is drawn on the CPU from `seed` alone, B is zero: the function is unchanged. Raises
    `UserError` if no layer fits, or if one that does shares its weight with another.
    """
    from peft import LoraConfig, inject_adapter_in_model

    uses = Counter(id(parameter) for _, parameter in model.named_parameters(remove_duplicate=False))
    names = sorted({name.rpartition(".")[2] for name, m in model.named_modules() if _linear(m)})
    if target == "all-linear" and any(parameter.dim() == 3 for parameter in model.parameters()):
        # Experts in one tensor are not linear layers, but in some architectures peft would wrap them.
        output = model.get_output_embeddings()
        target = sorted(
            {name.rpartition(".")[2] for name, m in model.named_modules() if _linear(m) and m is not output}
        )
    config = LoraConfig(
        r=rank,
        lora_alpha=alpha,  # type: ignore[arg-type]  # peft divides it by the rank
        lora_dropout=dropout,
        target_modules=target if isinstance(target, str) else list(target),
    )
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        torch.default_generator.manual_seed(seed)
        warnings.filterwarnings("ignore", message=".*fan_in_fan_out.*")  # GPT-2's weights are transposed
        warnings.filterwarnings("ignore", message=".*tie_word_embeddings.*")  # refused below
        try:
            inject_adapter_in_model(config, model)
        except ValueError as error:
            raise UserError(
                f"unlearn.lora.target: no layer of the model is named {target!r}; expected all-linear or "
                f"names among {', '.join(names)} ({str(error).splitlines()[0]})"
            ) from error
    if wrong := [name for name, layer in _layers(model) if uses[id(layer.get_base_layer().weight)] > 1]:
        raise UserError(
            f"unlearn.lora.target: {wrong[0]} shares its weight with another layer, so an adapter could not "
            f"be merged into it; expected names among {', '.join(names)} that share nothing"
        )
    # peft freezes the rest of a wrapped model; here every parameter is set.
    layers = None if trained is None else {weight.rpartition(".")[0] for weight in trained}
    for name, parameter in model.named_parameters():
        layer, adapter, _ = name.partition(".lora_")
        parameter.requires_grad_(bool(adapter) and (layers is None or layer in layers))
    if not any(parameter.requires_grad for parameter in model.parameters()):
        found = ", ".join(list(trained or ())[:SHOWN])
        raise UserError(
            f"unlearn.lora.target: {target!r} puts no adapter on the weights that this objective trains "
            f"({found}); expected all-linear or the names of these layers"
        )


@contextmanager
def adapters_off(model: Any) -> Iterator[Any]:
    """Inside, the model is what it was before `attach`, to the bit, and in evaluation mode.

    For reading only: leave it before the backward pass. `requires_grad` is restored afterwards.
    """
    layers = [layer for _, layer in _layers(model)]
    required = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    training = model.training
    try:
        for layer in layers:
            layer.enable_adapters(False)
        yield model.eval()
    finally:
        for layer in layers:
            layer.enable_adapters(True)
        for parameter, value in required:
            parameter.requires_grad_(value)
        model.train(training)


def detach(model: Any, merge: bool) -> None:
    """Take the adapters out, in place; with `merge` the weights W become W + (alpha / rank) B A.

    The products are computed in the weights' own type: bring a bf16 model to fp32 first; an 8-bit base is
    widened to fp32 here. Afterwards the model has no name and no class of peft.
    """
    for name, layer in _layers(model):
        if merge:
            if isinstance(layer.get_base_layer(), Int8Linear):
                layer.base_layer = layer.get_base_layer().plain()
            layer.merge()
        model.set_submodule(name, layer.get_base_layer())
    if merge:  # layers of such a base that had no adapter
        for name, layer in list(model.named_modules()):
            if isinstance(layer, Int8Linear):
                model.set_submodule(name, layer.plain())
    if hasattr(model, "peft_config"):
        del model.peft_config
    model.requires_grad_(True)


def plain_layer(layer: torch.nn.Module) -> torch.nn.Module:
    """The layer without its adapter: it computes outside `adapters_off` what the layer computes inside."""
    return layer.get_base_layer() if hasattr(layer, "get_base_layer") else layer  # type: ignore[operator]


def _layers(model: Any) -> list[tuple[str, Any]]:
    """Every adapted layer with its name."""
    from peft.tuners.lora import LoraLayer

    return [(name, module) for name, module in model.named_modules() if isinstance(module, LoraLayer)]


def _linear(module: torch.nn.Module) -> bool:
    return isinstance(module, torch.nn.Linear) or type(module).__name__ == "Conv1D"
