"""Key-value cache with all its room reserved at the start: no new token and no finished row copies the rest.

transformers' DynamicCache concatenates, so each new token copies all earlier ones; its StaticCache attends to
the whole room, used or not. Here a token is written into its place, and the used part is attended to as a
view.

Shapes: B rows, H key-value heads, L tokens used so far, R tokens reserved, D size of a head.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

NOTHING = torch.empty(0)


class ReservedLayer(DynamicLayer):
    """One layer's keys and values in two buffers (B, H, R, D), of which the first L tokens are used."""

    def __init__(self, room: int):
        super().__init__()
        self.room = room
        self.used = 0
        self.rows = 0
        self.buffers: list[torch.Tensor] = []  # keys, values

    def update(self, key_states: torch.Tensor, value_states: torch.Tensor, *args, **kwargs):
        """Write the new tokens (B, H, new, D) and return keys and values of all, (B, H, L, D)."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            self.buffers = [
                state.new_empty((*state.shape[:2], self.room, state.shape[3]))
                for state in (key_states, value_states)
            ]
        end = self.used + key_states.shape[2]
        for buffer, state in zip(self.buffers, (key_states, value_states), strict=True):
            buffer[: len(state), :, self.used : end] = state
        self.used = end
        self._view(len(key_states))
        return self.keys, self.values

    def get_seq_length(self) -> int:
        return self.used

    def rearrange(
        self,
        kept: Sequence[tuple[int, int]],
        fresh: Sequence[tuple[torch.Tensor, torch.Tensor] | None],
        width: int,
        room: int,
    ) -> None:
        """See the function of this name; `fresh`: keys and values of a row, None where it has none."""
        pairs = [pair for pair in fresh if pair is not None]
        if not self.is_initialized:
            self.lazy_initialization(*pairs[0])
        for which in range(2):
            old = self.buffers[which] if len(self.buffers) > which else pairs[0][which][None]  # (B, H, L, D)
            new = old.new_empty((len(kept) + len(fresh), old.shape[1], room, old.shape[3]))
            states = [old[row, :, self.used - length : self.used] for row, length in kept]
            states += [old[0, :, :0] if pair is None else pair[which] for pair in fresh]
            for row, own in enumerate(states):
                start = width - own.shape[1]
                new[row, :, :start] = 0.0
                new[row, :, start:width] = own
            del states
            self.buffers[which : which + 1] = [new]
        self.room, self.used = room, width
        self._view(len(kept) + len(fresh))

    def select(self, rows: Sequence[int]) -> None:
        """Row i becomes what row `rows[i]` was; rows may be dropped or repeated.

        Where rows only fill the places of dropped ones (see `fill_gaps`), only these are copied.
        """
        moved = [(place, row) for place, row in enumerate(rows) if place != row]
        if len(rows) <= self.rows and all(row >= len(rows) for _, row in moved):
            for buffer in self.buffers:
                for place, row in moved:
                    buffer[place, :, : self.used] = buffer[row, :, : self.used]
        else:
            index = torch.tensor(rows, device=self.device)
            for i, buffer in enumerate(self.buffers):
                self.buffers[i] = buffer.new_empty((len(rows), *buffer.shape[1:]))
                self.buffers[i][:, :, : self.used] = buffer[:, :, : self.used][index]
        self._view(len(rows))

    def _view(self, rows: int) -> None:
        self.rows = rows
        self.keys, self.values = (buffer[:rows, :, : self.used] for buffer in self.buffers)


def reserved_cache(config, room: int) -> DynamicCache:
    """A cache for `room` tokens a row; layers without full attention stay as the model has them."""
    cache = DynamicCache(config=config)
    cache.layers = [ReservedLayer(room) if type(layer) is DynamicLayer else layer for layer in cache.layers]
    return cache


@dataclass(frozen=True)
class States:
    """Keys and values of one sequence's tokens: for each layer both as (H, L, D)."""

    layers: list[tuple[torch.Tensor, torch.Tensor]]
    length: int


def keeping_cache(config) -> DynamicCache | None:
    """A cache from which `states_of` reads; None for models with layers that do not attend to all tokens."""
    cache = DynamicCache(config=config)
    return cache if cache.layers and all(type(layer) is DynamicLayer for layer in cache.layers) else None


def states_of(cache: DynamicCache, places: torch.Tensor) -> States:
    """Copies of keys and values of one text's tokens, from a cache of `keeping_cache`.

    `places` (L,): of the tokens among all that were read, counted row by row.
    """
    layers: list[Any] = cache.layers
    keys = layers[0].keys  # (B, H, T, D)
    rows, columns = (part.to(keys.device) for part in (places // keys.shape[2], places % keys.shape[2]))

    def of(states: torch.Tensor) -> torch.Tensor:
        return states[rows, :, columns].transpose(0, 1)  # (H, L, D)

    return States([(of(layer.keys), of(layer.values)) for layer in layers], len(places))


def last_states(cache: DynamicCache, rows: Sequence[tuple[int, int]]) -> list[States]:
    """Copies of keys and values of each row's last tokens, (row, how many)."""
    layers: list[Any] = cache.layers

    def last(states: torch.Tensor, row: int, length: int) -> torch.Tensor:
        return states[row, :, states.shape[2] - length :].clone()  # (H, L, D)

    return [
        States(
            [(last(layer.keys, row, length), last(layer.values, row, length)) for layer in layers],
            length,
        )
        for row, length in rows
    ]


def rearrange(
    cache: DynamicCache, kept: Sequence[tuple[int, int]], fresh: Sequence[States], room: int
) -> None:
    """Keep the last tokens of some rows, (row, how many), and add rows of `fresh` states, which are used up.

    All end at the same column, with zeros before them, and have `room` tokens reserved. This goes layer by
    layer, so that hardly anything exists twice. Works on caches of reserved layers alone.
    """
    width = max([*(length for _, length in kept), *(own.length for own in fresh)])
    layers: list[Any] = cache.layers
    for number, layer in enumerate(layers):
        layer.rearrange(kept, [own.layers[number] if own.length else None for own in fresh], width, room)
        for own in {id(own): own for own in fresh}.values():  # rows may share states
            if own.length:
                own.layers[number] = (NOTHING, NOTHING)


def select_rows(cache: DynamicCache, rows: Sequence[int], device: torch.device) -> None:
    """Row i of every layer becomes what row `rows[i]` was."""
    index = torch.tensor(rows, device=device)
    layers: list[Any] = cache.layers
    for layer in layers:
        if isinstance(layer, ReservedLayer):
            layer.select(rows)
        else:
            layer.batch_select_indices(index)


def fill_gaps(rows: int, dropped: set[int]) -> list[int]:
    """The rows that stay, with the last ones in the places of the dropped: as few as possible move."""
    kept = rows - len(dropped)
    last = iter(row for row in range(kept, rows) if row not in dropped)
    return [next(last) if place in dropped else place for place in range(kept)]
