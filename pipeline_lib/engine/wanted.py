"""Rows of tokens to be continued, and where batches get them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from pipeline_lib.engine.cache import States, keeping_cache
from pipeline_lib.models.forward import context_length

SHARE, LEAST = 0.25, 16  # of the tokens that may follow a row, and the fewest of them, for which room is kept


@dataclass(frozen=True)
class Generation:
    """New tokens without the end token; `ended` says whether the model produced one within the limit."""

    tokens: list[int]
    ended: bool


@dataclass(frozen=True)
class Wanted:
    """One row to generate."""

    number: int  # of the row
    prompt: int  # rows of one number here begin with the same tokens, which are read once
    tokens: Sequence[int]  # the prompt, and what is known of the answer
    limit: int  # the most tokens that follow, at least one
    begun: int  # where the answer begins in `tokens`
    uniforms: np.ndarray | None = None  # a random number for each token that follows; None: greedy
    states: States | None = None  # of all tokens but the last, if they were computed before

    @property
    def room(self) -> int:
        return len(self.tokens) + self.limit

    @property
    def soon(self) -> int:
        """Tokens for which a batch keeps room: most answers end long before their limit."""
        return len(self.tokens) + ahead(self.limit)

    def after(self, answer: Sequence[int], steps: int) -> Wanted:
        """The row after so many steps, with its whole answer so far; its states are elsewhere."""
        if not steps:
            return replace(self, states=None)
        return replace(
            self,
            prompt=~self.number,  # it has tokens of its own now
            tokens=[*self.tokens[: self.begun], *answer],
            limit=self.limit - steps,
            uniforms=None if self.uniforms is None else self.uniforms[steps:],
            states=None,
        )


class Source(Protocol):
    """Where a batch gets its rows."""

    def free(self, batch: Sequence[Wanted], budget: int) -> int:
        """How many rows are worth taking beside `batch` within `budget` tokens.

        At least one if the batch is empty and a row is left: with none, everything is done.
        """

    def take(self, count: int) -> list[Wanted]:
        """The next rows; fewer, or none, where the answers of some turn out to be known."""


class Rows:
    """Rows that are all known: the longest come first, so that what does not fit fails early."""

    def __init__(self, model, wanted: Sequence[Wanted]):
        self._model = model
        self._rest = sorted(wanted, key=lambda row: (-row.room, row.prompt, row.number))
        self._split = False  # whether the next rows' prompt was begun already

    def free(self, batch: Sequence[Wanted], budget: int) -> int:
        rest = self._rest
        size = fitting(self._model, batch, rest, budget)
        if self._split or not 0 < size < len(rest):
            return size
        whole = size
        while whole and rest[whole - 1].prompt == rest[size].prompt:
            whole -= 1  # the rows of one prompt come together, or it would be read twice
        if whole or not batch:
            return whole or size
        alone = fitting(self._model, (), rest, budget)
        return 0 if alone == len(rest) or rest[alone].prompt != rest[0].prompt else size

    def take(self, count: int) -> list[Wanted]:
        taken, self._rest = self._rest[:count], self._rest[count:]
        self._split = bool(self._rest) and taken[-1].prompt == self._rest[0].prompt
        return taken


def ahead(limit: int) -> int:
    """Of `limit` tokens that may follow, those for which room is kept."""
    return min(limit, max(LEAST, math.ceil(SHARE * limit)))


def can_join(model) -> bool:
    """Whether rows can join a batch that runs: keys and values of each can be laid out anew."""
    return keeping_cache(model.config) is not None


def fitting(model, batch: Sequence[Wanted], rows: Sequence[Wanted], budget: int) -> int:
    """How many of `rows`, from the first on, fit beside `batch`. One always fits alone.

    Each of them may soon need as many tokens as the one that needs most, and all together stay within
    `budget`. Where rows cannot join a batch later, none can leave it either: each may need its limit, padding
    counts too, and the width stays within the context.
    """
    joining, context = can_join(model), context_length(model)
    tokens = limit = room = soon = size = 0
    for count, row in enumerate((*batch, *rows), start=1):
        tokens, limit = max(tokens, len(row.tokens)), max(limit, row.limit)
        room, soon = max(room, row.room), max(soon, row.soon)
        width = soon if joining else tokens + limit
        if count > 1 and (count * width > budget or (context is not None and width > max(context, room))):
            break
        size = count
    return max(0, size - len(batch))


def columns(model, rows: Sequence[Wanted], budget: int) -> int:
    """Tokens that a batch of these rows has room for in each, padding included.

    Where rows can be laid out anew, they are when the room is used up: their padding is gone, and some leave
    the batch if not all fit any longer. So it holds what each of the rows needs soon. Tables of positions or
    masks end at the model's context.
    """
    most = max(len(row.tokens) for row in rows) + max(row.limit for row in rows)
    if not can_join(model):
        return most
    context = context_length(model)
    enough = budget // len(rows) if context is None else min(context, budget // len(rows))
    return min(most, max(enough, *(row.soon for row in rows)))
