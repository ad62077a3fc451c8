"""Answers of a model, greedy or drawn, batched: what `full_batches` does with the rows is said there."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

import numpy as np

from pipeline_lib.engine.full_batches import continue_rows
from pipeline_lib.engine.settings import Decoding, Sampling
from pipeline_lib.engine.wanted import Generation, Rows, Wanted


def generate(
    model,
    prompts: Sequence[Sequence[int]],
    decoding: Decoding,
    *,
    max_new_tokens: int | Sequence[int],
    on_progress: Callable[[int], object] = lambda prompts: None,
) -> list[Generation]:
    """The greedy continuation of each tokenised prompt, in the order given.

    `max_new_tokens`: one limit, or one a prompt; the end token counts. Prompts of similar length share a
    batch. A limit below one gives no token.

    Raises `UserError` where the model's logits are not finite.
    """
    limits = [max_new_tokens] * len(prompts) if isinstance(max_new_tokens, int) else list(max_new_tokens)
    wanted = [
        Wanted(i, i, prompt, limit, len(prompt))
        for i, (prompt, limit) in enumerate(zip(prompts, limits, strict=True))
        if limit > 0
    ]
    found = continue_rows(model, Rows(model, wanted), None, decoding, on_progress)
    return [found.get(i, Generation([], False)) for i in range(len(prompts))]


def seed_of(name: str) -> int:
    """A seed of `sample` from a record's name alone, whatever other records there are."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")


def sample(
    model,
    prompts: Sequence[Sequence[int]],
    sampling: Sampling,
    decoding: Decoding,
    *,
    seeds: Sequence[int],
    max_new_tokens: int,
    on_progress: Callable[[int], object] = lambda samples: None,
) -> list[list[Generation]]:
    """`sampling.n` random continuations of each prompt. A prompt is computed once and its cache repeated.

    Sample k of prompt i depends on `seeds[i]` and k alone: not on the batch, the order or n. `on_progress`
    is told how many samples are done.
    """
    n = sampling.n
    wanted: list[Wanted] = []
    for i, (prompt, seed) in enumerate(zip(prompts, seeds, strict=True)):
        for k in range(n):
            uniforms = np.random.default_rng([seed, k]).random(max_new_tokens)
            wanted.append(Wanted(len(wanted), i, prompt, max_new_tokens, len(prompt), uniforms))
    found = continue_rows(model, Rows(model, wanted), sampling, decoding, on_progress)
    return [[found[i * n + k] for k in range(n)] for i in range(len(prompts))]
