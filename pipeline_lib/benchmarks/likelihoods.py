"""Scores of many (context, continuation) pairs, with what neighbours share computed once.

The choices of a question share its words, and few-shot questions of one subject share their examples, which
make up most of the tokens. Neighbours with a long common beginning are therefore merged into one tree (see
engine/trees.py); every pair is scored as if it were alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import takewhile
from operator import eq

from pipeline_lib.benchmarks.encoding import Pair
from pipeline_lib.core.errors import UserError
from pipeline_lib.data.batching import Example
from pipeline_lib.engine.forward_pass import TextLikelihood
from pipeline_lib.engine.likelihoods import group_likelihoods

SMALL_TREE = 512  # tokens; a tree may always grow to this size


def score_pairs(
    model,
    pairs: Sequence[Pair],
    names: Sequence[str],
    *,
    max_tokens_per_batch: int,
    pad_id: int,
    on_progress: Callable[[int], object] = lambda pairs: None,
) -> list[TextLikelihood]:
    """The score of each pair's continuation, in order. `names` say in errors which pair it is."""
    groups = merge(pairs, max_tokens_per_batch)
    examples = [Example((*given, *scored), len(given), 0) for given, scored in pairs]
    sequences = [[examples[i] for i in group] for group in groups]
    # Pairs that count as done with each group: whole numbers that add up to all of them.
    parts, total = len(groups), len(pairs)
    shares = ((i + 1) * total // parts - i * total // parts for i in range(parts))
    results = group_likelihoods(
        model,
        sequences,
        max_tokens_per_batch=max_tokens_per_batch,
        pad_id=pad_id,
        on_progress=lambda count: on_progress(sum(next(shares) for _ in range(count))),
    )
    scores: list[TextLikelihood | None] = [None] * len(pairs)
    for group, group_scores in zip(groups, results, strict=True):
        for i, score in zip(group, group_scores, strict=True):
            if not math.isfinite(score.nll):
                raise UserError(
                    f"{names[i]}: the model gives a log-probability that is not a finite number. Its weights "
                    "are broken (a diverged run, or an overflow in half precision)."
                )
            scores[i] = score
    return [score for score in scores if score is not None]


def merge(pairs: Sequence[Pair], max_tokens: int) -> list[list[int]]:
    """Groups of neighbouring pairs whose sequences share at least half of their tokens with the first.

    A group's tree has at most twice the tokens of its first sequence (or SMALL_TREE, if that is more) and
    at most `max_tokens`: attention inside a tree costs the square of its size.
    """
    groups: list[list[int]] = []
    first: list[int] = []
    before: list[int] = []
    size = 0
    for i, (given, scored) in enumerate(pairs):
        sequence = given + scored
        shared = _common(first, sequence)
        largest = min(max_tokens, max(2 * len(first), SMALL_TREE))
        added = len(sequence) - max(shared, _common(before, sequence))
        if groups and 2 * shared >= len(sequence) and size + added <= largest:
            groups[-1].append(i)
            size += added
        else:
            groups.append([i])
            first, size = sequence, len(sequence)
        before = sequence
    return groups


def _common(one: Sequence[int], other: Sequence[int]) -> int:
    """How many tokens two sequences have in common at their beginning."""
    return sum(takewhile(bool, map(eq, one, other)))
