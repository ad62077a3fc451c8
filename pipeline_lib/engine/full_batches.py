"""Rows of tokens to be continued, in batches that stay full.

A step over few rows costs almost as much as one over many: on a CPU the weights are read once a step. So when
a quarter of a batch has ended, the other rows are set aside with their keys and values, and go on beside new
ones. Most answers end after a few dozen tokens, and some run on to the limit.

Shapes: B rows still running, T tokens of the padded rows, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch

from pipeline_lib.core.errors import UserError
from pipeline_lib.engine.cache import (
    States,
    fill_gaps,
    keeping_cache,
    reserved_cache,
    resumed_cache,
    select_rows,
    states_taken,
)
from pipeline_lib.engine.choosing import choose
from pipeline_lib.engine.settings import Decoding, Sampling
from pipeline_lib.models.forward import context_length, position_ids
from pipeline_lib.models.memory import halve_on_out_of_memory

FREE = 0.25  # of the rows of a batch, or of a whole batch: worth filling up


@dataclass(frozen=True)
class Generation:
    """New tokens without the end token; `ended` says whether the model produced one within the limit."""

    tokens: list[int]
    ended: bool


@dataclass(frozen=True)
class Wanted:
    """One row to generate."""

    number: int  # of the row
    prompt: int  # number of its prompt; rows of one prompt share its computation
    tokens: Sequence[int]  # the prompt, and what is known of the answer
    limit: int  # the most tokens that follow, at least one
    begun: int  # where the answer begins in `tokens`
    uniforms: np.ndarray | None = None  # a random number for each token that follows; None: greedy
    states: States | None = None  # of all tokens but the last, if they were computed before

    @property
    def room(self) -> int:
        return len(self.tokens) + self.limit


class Source(Protocol):
    """Where batches get their rows."""

    def take(self, batch: Sequence[Wanted]) -> list[Wanted]:
        """More rows that fit beside `batch`, which is not changed; none where no other is to be added."""

    def more(self) -> bool:
        """Whether there are rows that were not taken."""


class Rows:
    """Rows that are all known: the longest come first, so that what does not fit fails early."""

    def __init__(self, model, wanted: Sequence[Wanted], decoding: Decoding):
        self._model, self._decoding = model, decoding
        self._rest = sorted(wanted, key=lambda row: (-row.room, row.prompt, row.number))

    def take(self, batch: Sequence[Wanted]) -> list[Wanted]:
        rest = self._rest
        size = fitting(self._model, batch, rest, self._decoding.max_tokens_per_batch)
        if 0 < size < len(rest) and (batch or rest[0].prompt != rest[size].prompt):
            while size and rest[size - 1].prompt == rest[size].prompt:
                size -= 1  # the rows of one prompt stay together, or it would be computed twice
        taken, self._rest = rest[:size], rest[size:]
        return taken

    def more(self) -> bool:
        return bool(self._rest)


def fitting(model, batch: Sequence[Wanted], rows: Sequence[Wanted], max_tokens: int) -> int:
    """How many of `rows`, from the first on, fit beside `batch`. One always fits alone.

    Each of them may need as many tokens as the one with most room, and all together stay within `max_tokens`.
    Where rows cannot wait, padding counts too, and the width of the batch stays within the model's context.
    """
    wait, context = _can_wait(model), context_length(model)
    tokens = limit = room = size = 0
    for count, row in enumerate((*batch, *rows), start=1):
        tokens, limit, room = max(tokens, len(row.tokens)), max(limit, row.limit), max(room, row.room)
        width = room if wait else tokens + limit
        if count > 1 and (count * width > max_tokens or (context is not None and width > max(context, room))):
            break
        size = count
    return max(0, size - len(batch))


def _can_wait(model) -> bool:
    """Whether keys and values of a row can be taken out of a batch."""
    return keeping_cache(model.config) is not None


def _columns(model, rows: Sequence[Wanted], max_tokens: int) -> int:
    """Tokens that a batch of these rows has room for in each, padding included.

    Where rows can wait, they do when the room is used up, and their padding is gone. So it need not hold the
    longest row and the highest limit of another, only what each of the rows needs by itself. Tables of
    positions or masks end at the model's context.
    """
    most = max(len(row.tokens) for row in rows) + max(row.limit for row in rows)
    if not _can_wait(model):
        return most
    context = context_length(model)
    enough = max_tokens // len(rows) if context is None else min(context, max_tokens // len(rows))
    return min(most, max(enough, *(row.room for row in rows)))


def continue_rows(
    model,
    source: Source,
    sampling: Sampling | None,
    decoding: Decoding,
    on_progress: Callable[[int], object],
) -> dict[int, Generation]:
    """What follows each row of `source`, with what was known of its answer before it, by the row's number."""
    results: dict[int, Generation] = {}
    batch: list[Wanted] = []
    while True:
        while new := source.take(batch):
            batch += new
        if not batch:
            return results
        wait = source.more() and _can_wait(model)

        def run(part: Sequence[Wanted], wait: bool = wait) -> list[Generation | Wanted]:
            return _run_batch(model, part, sampling, decoding, wait)

        found = halve_on_out_of_memory(batch, run)
        ready = {
            row.number: result
            for row, result in zip(batch, found, strict=True)
            if isinstance(result, Generation)
        }
        batch = [result for result in found if isinstance(result, Wanted)]
        results |= ready
        on_progress(len(ready))


@torch.inference_mode()
def _run_batch(
    model, wanted: Sequence[Wanted], sampling: Sampling | None, decoding: Decoding, wait: bool
) -> list[Generation | Wanted]:
    """Each row's answer, or how it goes on: where room is used up, and with `wait` where `FREE` is free."""
    device = model.get_input_embeddings().weight.device
    with torch.autocast(device.type, torch.bfloat16) if decoding.compute == "bf16" else nullcontext():
        resumed = any(row.states is not None for row in wanted)
        rows = _with_states(model, wanted, decoding.pad_id) if resumed else wanted
        # of fresh rows each prompt once
        first = list(rows) if resumed else list({row.prompt: row for row in rows}.values())
        input_ids, mask = _padded([row.tokens for row in first], decoding.pad_id, device)
        width = input_ids.shape[1]
        room = _columns(model, rows, decoding.max_tokens_per_batch)
        mask = torch.nn.functional.pad(mask, (0, room - width), value=1)  # (B, room)
        positions = position_ids(mask)[:, :width]
        if resumed:
            cache = resumed_cache(model.config, [row.states for row in rows if row.states], room)
            input_ids, positions = input_ids[:, -1:], positions[:, -1:]
        else:
            cache = reserved_cache(model.config, room)
        uniforms = _uniforms(rows, device)

        results: list[Generation | Wanted | None] = [None] * len(rows)
        new_tokens: list[list[int]] = [[*row.tokens[row.begun :]] for row in rows]
        running = list(range(len(rows)))  # which of `rows` each row of the batch is
        for step in range(room - width):
            logits = model(
                input_ids=input_ids,
                attention_mask=mask[:, : width + step],
                position_ids=positions,
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            ).logits[:, -1]  # (B, V)
            if step == 0 and len(rows) > len(first):
                owner = {row.prompt: i for i, row in enumerate(first)}
                owners = [owner[row.prompt] for row in rows]
                select_rows(cache, owners, device)
                logits, mask, positions = logits[owners], mask[owners], positions[owners]
            logits = logits.float()
            if not math.isfinite(float(logits.amax(-1).sum())):  # a NaN is the largest of its row
                raise UserError(
                    "the model's logits are not finite, so it gives no answer. Its weights are broken (a "
                    "diverged run), or the compute type overflows: try fp32, or train it again."
                )
            chosen = choose(logits, sampling, None if uniforms is None else uniforms[running, step])  # (B,)
            dropped = set()
            for place, (i, token) in enumerate(zip(running, chosen.tolist(), strict=True)):
                ended = token in decoding.ends
                if not ended:
                    new_tokens[i].append(token)
                if ended or step + 1 == rows[i].limit:
                    results[i] = Generation(new_tokens[i], ended)
                    dropped.add(place)
            if len(dropped) == len(running):
                break
            if dropped:
                kept = fill_gaps(len(running), dropped)
                select_rows(cache, kept, device)
                chosen, mask, positions = chosen[kept], mask[kept], positions[kept]
                running = [running[place] for place in kept]
            if (wait and len(running) <= (1 - FREE) * len(rows)) or width + step + 1 == room:
                lengths = [rows[i].begun + len(new_tokens[i]) - 1 for i in running]
                for i, own in zip(running, states_taken(cache, list(enumerate(lengths))), strict=True):
                    results[i] = _later(rows[i], new_tokens[i], step + 1, own)
                break
            input_ids = chosen[:, None]  # (B, 1)
            positions = positions[:, -1:] + 1
    return [result for result in results if result is not None]


def _padded(
    texts: Sequence[Sequence[int]], pad_id: int, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids and the mask of texts padded on the left, both (B, T)."""
    width = max(map(len, texts))
    input_ids = torch.full((len(texts), width), pad_id)
    mask = torch.ones((len(texts), width), dtype=torch.int64)
    for i, tokens in enumerate(texts):
        input_ids[i, width - len(tokens) :] = torch.tensor(tokens)
        mask[i, : width - len(tokens)] = 0
    return input_ids.to(device), mask.to(device)


def _uniforms(rows: Sequence[Wanted], device: torch.device) -> torch.Tensor | None:
    """The random numbers of all rows (B, highest limit); None where answers are greedy."""
    most = max(row.limit for row in rows)
    drawn = [np.pad(row.uniforms, (0, most - row.limit)) for row in rows if row.uniforms is not None]
    return torch.tensor(np.stack(drawn), device=device) if drawn else None


def _with_states(model, wanted: Sequence[Wanted], pad_id: int) -> list[Wanted]:
    """The rows, all with keys and values of their tokens but the last; each prompt is read once."""
    known = next(row.states for row in wanted if row.states is not None)
    read = {row.prompt: row.tokens[:-1] for row in wanted if row.states is None and len(row.tokens) > 1}
    found: dict[int, States] = {}
    if read:
        device = model.get_input_embeddings().weight.device
        input_ids, mask = _padded(list(read.values()), pad_id, device)
        cache = reserved_cache(model.config, input_ids.shape[1])
        model.get_decoder()(
            input_ids=input_ids,
            attention_mask=mask,
            position_ids=position_ids(mask),
            past_key_values=cache,
            use_cache=True,
        )
        lengths = list(enumerate(map(len, read.values())))
        found = dict(zip(read, states_taken(cache, lengths), strict=True))
    nothing = States([(keys[:, :0], values[:, :0]) for keys, values in known.layers], 0)
    return [
        row if row.states is not None else replace(row, states=found.get(row.prompt, nothing))
        for row in wanted
    ]


def _later(row: Wanted, answer: Sequence[int], steps: int, states: States) -> Wanted:
    """The row as it goes on after so many steps, with its answer so far and the states of all but its end."""
    return replace(
        row,
        tokens=[*row.tokens[: row.begun], *answer],
        limit=row.limit - steps,
        uniforms=None if row.uniforms is None else row.uniforms[steps:],
        states=states,
    )
