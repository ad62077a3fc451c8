"""Weights of the decoder's linear layers set to zero, by their size or by what they are multiplied with.

Magnitude: the smallest |w| of each W (Han et al. 2015, arXiv 1506.02626): models/reduced.py.
Wanda (Sun et al. 2024, arXiv 2306.11695, eq. 1): in each row of W, (out, in), those of the smallest
|W_ij| ||X_j||, with ||X_j|| the root of the sum of squares of input j over the tokens of the calibration
texts. Layers are pruned from the first to the last, and each sees what the pruned ones before it give.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import torch

from pipeline_lib.data.batching import Example
from pipeline_lib.models.layers import decoder_layers
from pipeline_lib.models.reduced import Changes, linear_layers

Call = tuple[tuple[Any, ...], dict[str, Any]]  # what a layer is given beside the hidden states


def smallest_of_rows(scores: torch.Tensor, sparsity: float) -> torch.Tensor:
    """Where each row of (out, in) has its smallest scores, this share of them: True at what goes."""
    order = scores.argsort(dim=1, stable=True)[:, : round(sparsity * scores.shape[1])]
    return torch.zeros_like(scores, dtype=torch.bool).scatter_(1, order, True)


@torch.no_grad()
def prune_wanda(model: Any, examples: Sequence[Example], sparsity: float) -> dict[str, Any]:
    """Prune the linear layers of every decoder layer in place, by texts that are each read alone.

    Returns facts for run.json. Hidden states of all texts are kept, (T, D) each.
    """
    model.eval()
    layers = decoder_layers(model, "prune")
    linear = [module for _, module in linear_layers(model)]
    states, calls = _first_calls(model, layers, examples)
    changes = Changes()
    for number, layer in enumerate(layers):
        inside = {id(module) for module in layer.modules()}
        own = [module for module in linear if id(module) in inside]
        sums = _sums_of_squares(own, layer, states, calls[number])
        for module, total in zip(own, sums, strict=True):
            scores = module.weight.abs().float() * total.sqrt().to(module.weight.device, torch.float32)
            changes.put(module, module.weight.masked_fill(smallest_of_rows(scores, sparsity), 0))
        states = [_output(layer, hidden, call) for hidden, call in zip(states, calls[number], strict=True)]
    return changes.facts()


def _first_calls(
    model: Any, layers: Any, examples: Sequence[Example]
) -> tuple[list[torch.Tensor], list[list[Call]]]:
    """What enters the first layer for each text, and by layer what it is given beside the hidden states."""
    states: list[torch.Tensor] = []
    calls: list[list[Call]] = [[] for _ in layers]

    def keep(number: int) -> Any:
        def hook(_module: Any, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
            if number == 0:
                states.append(inputs[0])
            calls[number].append((inputs[1:], named))

        return hook

    with ExitStack() as hooks:
        for number, layer in enumerate(layers):
            handle = layer.register_forward_pre_hook(keep(number), with_kwargs=True)
            hooks.callback(handle.remove)
        device = model.get_input_embeddings().weight.device
        for example in examples:
            model.get_decoder()(input_ids=torch.tensor([example.tokens], device=device), use_cache=False)
    return states, calls


def _sums_of_squares(
    modules: Sequence[torch.nn.Linear], layer: Any, states: Sequence[torch.Tensor], calls: Sequence[Call]
) -> list[torch.Tensor]:
    """(in,) of each module: the sum of the squares of its inputs over the tokens of all texts, in fp64."""
    sums = [torch.zeros(module.in_features, dtype=torch.float64) for module in modules]

    def add(place: int) -> Any:
        def hook(_module: Any, inputs: tuple[Any, ...]) -> None:
            sums[place] += inputs[0].double().square().flatten(0, -2).sum(0).cpu()

        return hook

    with ExitStack() as hooks:
        for place, module in enumerate(modules):
            hooks.callback(module.register_forward_pre_hook(add(place)).remove)
        for hidden, call in zip(states, calls, strict=True):
            _output(layer, hidden, call)
    return sums


def _output(layer: Any, hidden: torch.Tensor, call: Call) -> torch.Tensor:
    found = layer(hidden, *call[0], **call[1])
    return found[0] if isinstance(found, tuple) else found
