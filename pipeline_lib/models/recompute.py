"""Activation checkpointing: keep the input of each layer, compute the rest again in the backward pass.

Source: Chen et al. 2016, arXiv 1604.06174, with one segment a layer. Of a layer's activations only its input
(B, T, D) is kept from the forward to the backward pass, at the price of one more forward pass: about a
third more time for a step. The same operations run again on the same numbers with the same dropout, so
losses and gradients are the same to the bit where the kernels give the same bits twice (on a CPU they do).

transformers' own switch works in training mode only; here what counts is whether a gradient is wanted, so
that influence steps, which run in evaluation mode, save the same memory. The checkpoint is inside the layer's
call, so that hooks on layers (RMU's stop) run once, outside of what is computed again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch.utils.checkpoint import checkpoint

from pipeline_lib.core.errors import UserError


@contextmanager
def activations_again(model: Any, wanted: bool = True) -> Iterator[None]:
    """Inside, the layers of `model` keep no activations (nothing changes with `wanted` False).

    `UserError` if the decoder does not keep its layers in a list.
    """
    layers = decoder_layers(model) if wanted else []
    for layer in layers:
        layer.forward = partial(again_in_backward, layer.forward)
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward  # the class's own is back


def decoder_layers(model: Any) -> list[torch.nn.Module]:
    """The layers of the decoder, first to last: the members of the lists directly below it."""
    decoder = model.get_decoder()
    found = [
        layer for child in decoder.children() if isinstance(child, torch.nn.ModuleList) for layer in child
    ]
    if not found:
        raise UserError(
            f"`checkpointing` needs a decoder with a list of layers; {type(decoder).__name__} has none. "
            "Leave it out, and take a smaller `batch_size` with more `accumulation` instead."
        )
    return found


def again_in_backward(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """`function(*args, **kwargs)`, keeping only the arguments for the backward pass."""
    if not torch.is_grad_enabled():
        return function(*args, **kwargs)
    return checkpoint(function, *args, use_reentrant=False, **kwargs)
