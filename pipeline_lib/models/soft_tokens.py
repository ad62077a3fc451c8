"""Soft tokens: places of a prompt whose embeddings are given as vectors, and not looked up.

A soft token has a number beyond the model's vocabulary. Inside `soft_tokens` the input embedding gives such a
number its vector; the output embedding stays as it is, tied or not, so that no soft token is ever predicted.
Whatever works with numbers of tokens (trees, batches, caches) works with these too.

Shapes: S soft tokens, D hidden size.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from pipeline_lib.models.prompt import PromptFormat


@dataclass(frozen=True)
class SoftPromptFormat(PromptFormat):
    """A prompt format with soft tokens after every prompt, before the answer and what is given of it.

    `soft`: their numbers. `vectors`: a name of what they are read as, by which formats differ.
    """

    soft: tuple[int, ...] = ()
    vectors: str = ""

    def encode_prompt(self, tokenizer, prompt: str) -> list[int]:
        return [*super().encode_prompt(tokenizer, prompt), *self.soft]

    def encode_text(self, tokenizer, prompt: str, continuation: str) -> tuple[list[int], int, int]:
        tokens, begin, boundary = super().encode_text(tokenizer, prompt, continuation)
        return [*tokens[:boundary], *self.soft, *tokens[boundary:]], begin, boundary + len(self.soft)

    def decode_text(self, tokenizer, prompt_ids: Sequence[int], ids: Sequence[int]) -> str:
        read = [token for token in prompt_ids if token not in self.soft]
        return super().decode_text(tokenizer, read, ids)


def soft_numbers(model: Any, count: int) -> tuple[int, ...]:
    """The numbers of this many soft tokens: the first that the model's vocabulary does not have."""
    first = model.get_input_embeddings().weight.shape[0]
    return tuple(range(first, first + count))


@contextmanager
def soft_tokens(model: Any, vectors: torch.Tensor) -> Iterator[None]:
    """Inside, the model reads its soft tokens as `vectors` (S, D), on its device.

    They stand for what the input embedding gives, scaled as it is there. A gradient reaches them.
    """
    layer = model.get_input_embeddings()
    looked_up, first = layer.forward, layer.weight.shape[0]

    def forward(tokens: torch.Tensor) -> torch.Tensor:
        soft = tokens >= first
        found = looked_up(tokens.masked_fill(soft, 0))  # (..., D)
        own = vectors[(tokens - first).clamp(min=0)].to(found.dtype)
        return torch.where(soft[..., None], own, found)

    layer.forward = forward
    try:
        yield
    finally:
        del layer.forward
