"""From hidden states to logits, as the model's own forward pass does it.

Most architectures only multiply by the output embedding. Some do more: Gemma 2 caps logits; Cohere, Granite
and others scale them; future ones are unknown. So the model's own code is run once, with its decoder and its
output embedding replaced by known numbers, to see whether anything else happens between the two or after
them. If nothing does, the output embedding is the head; if something does, the head is the model's own
forward pass with the decoder's result given.

Shapes: N positions, D hidden size, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from pipeline_lib.models.adapters import plain_layer

Head = Callable[[torch.Tensor], torch.Tensor]
KNOWN = "_head_is_plain"  # the attribute in which a model keeps the answer
LARGEST = 100.0  # the largest logit in the trial: far above every cap


def output_head(model: Any, without_adapter: bool = False) -> Head:
    """The function from last hidden states (N, D) to the model's logits (N, V).

    `without_adapter`: the function as it is inside `adapters_off`, to be called outside.
    """
    layer = model.get_output_embeddings()
    if without_adapter and layer is not None:
        layer = plain_layer(layer)
    if not hasattr(model, "config"):  # not a model of transformers
        return layer
    if KNOWN not in model.__dict__:
        model.__dict__[KNOWN] = _is_plain(model)
    return layer if model.__dict__[KNOWN] else OwnHead(model, layer)


class OwnHead:
    """A model's forward pass from the last hidden states on; `layer` stands in for its output embedding."""

    def __init__(self, model: Any, layer: torch.nn.Module | None):
        self._model, self._layer = model, layer

    @property
    def weight(self) -> torch.Tensor | None:
        """The output embedding's weight (V, D)."""
        return getattr(self._layer, "weight", None)

    def __call__(self, hidden: torch.Tensor) -> torch.Tensor:
        """(N, D) -> (N, V)."""
        with _replaced(self._model, hidden[None], self._layer):
            return _forward(self._model, hidden.shape[0], hidden.device)[0]


def _is_plain(model: Any) -> bool:
    """Whether the logits are the output embedding's result for the decoder's result, and nothing more.

    A model that fails in this trial gets `OwnHead`, which computes as the model does.
    """
    layer = model.get_output_embeddings()
    weight = getattr(layer, "weight", None)
    if weight is None:
        return False
    size, width = weight.shape
    hidden = torch.linspace(-1, 1, width, device=weight.device, dtype=weight.dtype)[None, None]
    logits = torch.linspace(-LARGEST, LARGEST, size, device=weight.device, dtype=weight.dtype)[None, None]
    trial = _Trial(logits)
    try:
        with torch.no_grad(), _replaced(model, hidden, trial):
            given = _forward(model, 1, weight.device)
    except Exception:  # the architecture uses its head in a way of its own
        return False
    return (
        len(trial.seen) == 1
        and torch.equal(trial.seen[0].to(hidden.dtype), hidden)
        and torch.equal(given.to(logits.dtype), logits)
    )


def _forward(model: Any, positions: int, device: torch.device) -> torch.Tensor:
    tokens = torch.zeros((1, positions), dtype=torch.int64, device=device)
    return model(input_ids=tokens, use_cache=False).logits  # (1, N, V)


@contextmanager
def _replaced(model: Any, hidden: torch.Tensor, layer: torch.nn.Module | None) -> Iterator[None]:
    """Inside, the decoder returns `hidden` (1, N, D), and `layer` is the output embedding."""
    decoder, output = model.get_decoder(), model.get_output_embeddings()
    swaps: list[tuple[torch.nn.Module, torch.nn.Module]] = [(decoder, _Answering(decoder, hidden))]
    if layer is not None and layer is not output:
        swaps.append((output, layer))
    places = [(*_place(model, old), old, new) for old, new in swaps]
    try:
        for parent, name, _, new in places:
            parent._modules[name] = new
        yield
    finally:
        for parent, name, old, _ in places:
            parent._modules[name] = old


def _place(model: torch.nn.Module, wanted: torch.nn.Module) -> tuple[torch.nn.Module, str]:
    """The module that holds `wanted`, and the name under which it does."""
    for parent in model.modules():
        for name, child in parent._modules.items():
            if child is wanted:
                return parent, name
    raise ValueError(f"{type(model).__name__} has its decoder or its output embedding in no module below it")


class _Answering(torch.nn.Module):
    """In place of a decoder: returns `hidden` for any input, and has the decoder's attributes."""

    def __init__(self, decoder: torch.nn.Module, hidden: torch.Tensor):
        super().__init__()
        self._of = (decoder, hidden)  # in a tuple, so that torch does not register the decoder as a part

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["_of"][0], name)

    def forward(self, *_: Any, **__: Any) -> Any:
        from transformers.modeling_outputs import BaseModelOutputWithPast

        class Answer(BaseModelOutputWithPast):
            def __getattr__(self, name: str) -> None:
                """None for router logits and whatever else some decoders return besides the states."""
                if name.startswith("__"):
                    raise AttributeError(name)

        return Answer(last_hidden_state=self._of[1])


class _Trial(torch.nn.Module):
    """In place of an output embedding: returns known logits and keeps its inputs."""

    def __init__(self, logits: torch.Tensor):
        super().__init__()
        self._logits = logits
        self.seen: list[torch.Tensor] = []

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        self.seen.append(hidden)
        return self._logits.clone()
