"""Which rows of a step each process works on.

Shapes: B examples, T tokens, N answer tokens.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from pipeline_lib.data.batching import IGNORED, Batch
from pipeline_lib.distributed.group import Group


@dataclass(frozen=True)
class Piece:
    """Rows of one micro-batch. `answers` (N,) says which of its answer tokens are theirs; None = all.

    A piece that does not `count` stands in for missing rows, because every process must make the same passes:
    its losses are 0, and nothing that is made of its tokens may count.
    """

    batch: Batch
    source: int  # which micro-batch of the step
    answers: torch.Tensor | None = None
    counts: bool = True


def pieces(batches: Sequence[Batch], group: Group) -> list[Piece]:
    """This process's pieces of a step's micro-batches, as many in every process, in their order.

    They are whole micro-batches where the processes can share them evenly. Else each is dealt out row by row
    (its rows are sorted by length) into as many pieces as it takes: 3 micro-batches for 2 processes make 6.
    Counts of the step stay, so the losses of all pieces of all processes add up to the loss of the step.
    """
    if group.size == 1:
        return [Piece(batch, source) for source, batch in enumerate(batches)]
    cuts = group.size // math.gcd(len(batches), group.size)
    places = [(source, cut) for source in range(len(batches)) for cut in range(cuts)]
    return [_piece(batches[source], source, cut, cuts) for source, cut in places[group.rank :: group.size]]


def _piece(batch: Batch, source: int, cut: int, cuts: int) -> Piece:
    if cuts == 1:
        return Piece(batch, source)
    counts = cut < len(batch.index)
    chosen = slice(cut, None, cuts) if counts else slice(0, 1)
    wanted = batch.labels[:, 1:] != IGNORED  # (B, T-1)
    theirs = torch.zeros_like(wanted)
    theirs[chosen] = True
    rows = batch.rows(chosen)
    return Piece(rows if counts else weightless(rows), source, theirs[wanted], counts)


def weightless(batch: Batch) -> Batch:
    """The batch with infinite counts: losses divide by them, so loss and gradient are exactly 0."""
    alternative = None if batch.alternative is None else weightless(batch.alternative)
    return replace(batch, tokens_in_step=math.inf, examples_in_step=math.inf, alternative=alternative)  # type: ignore[arg-type]
