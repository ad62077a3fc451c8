"""Requests in tokens, for tests that need no text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pipeline_lib.data.batching import Example
from pipeline_lib.engine.forward_pass import TextLikelihood
from pipeline_lib.engine.likelihoods import group_likelihoods


def continuation_likelihoods(
    model: Any, requests: Sequence[tuple[Sequence[int], Sequence[Sequence[int]]]], **options: Any
) -> list[list[TextLikelihood]]:
    """Scores of each request's continuations after its context."""
    groups = [
        [Example((*context, *text), len(context), number) for text in texts]
        for number, (context, texts) in enumerate(requests)
    ]
    return group_likelihoods(model, groups, **options)
