"""Requests in tokens, for tests that need no text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pipeline_lib.data.batching import Example
from pipeline_lib.evaluation.forward_pass import TextScore
from pipeline_lib.evaluation.scoring import score_groups


def score_continuations(
    model: Any, requests: Sequence[tuple[Sequence[int], Sequence[Sequence[int]]]], **options: Any
) -> list[list[TextScore]]:
    """Scores of each request's continuations after its context."""
    groups = [
        [Example((*context, *text), len(context), number) for text in texts]
        for number, (context, texts) in enumerate(requests)
    ]
    return score_groups(model, groups, **options)
