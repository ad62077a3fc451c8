"""Requests in tokens, for tests that need no text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pipeline_lib.data.batching import Example
from pipeline_lib.engine.asking import begun
from pipeline_lib.engine.cache import States
from pipeline_lib.engine.forward_pass import TextLikelihood
from pipeline_lib.engine.full_batches import continue_rows
from pipeline_lib.engine.likelihoods import group_likelihoods
from pipeline_lib.engine.settings import Decoding
from pipeline_lib.engine.wanted import Generation, Rows, Wanted


def continuation_likelihoods(
    model: Any, requests: Sequence[tuple[Sequence[int], Sequence[Sequence[int]]]], **options: Any
) -> list[list[TextLikelihood]]:
    """Scores of each request's continuations after its context."""
    groups = [
        [Example((*context, *text), len(context), number) for text in texts]
        for number, (context, texts) in enumerate(requests)
    ]
    return group_likelihoods(model, groups, **options)


def continue_greedily(
    model: Any,
    prompts: Sequence[Sequence[int]],
    known: Sequence[Sequence[int]],
    states: Sequence[States | None],
    decoding: Decoding,
    limits: Sequence[int],
) -> list[Generation]:
    """Greedy answers of which the first tokens are known."""
    asked = zip(prompts, known, limits, states, strict=True)
    rows = [begun(i, *row, decoding) for i, row in enumerate(asked)]
    left = [row for row in rows if isinstance(row, Wanted)]
    found = continue_rows(model, Rows(model, left), None, decoding, lambda done: None)
    return [found[row.number] if isinstance(row, Wanted) else row for row in rows]
