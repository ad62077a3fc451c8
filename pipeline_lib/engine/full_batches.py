"""Rows of tokens continued in a batch that stays full.

A step over few rows costs almost as much as one over many: on a CPU the weights are read once a step. So when
a quarter of the batch has ended, new rows join the others if any are worth it. Most answers end after a few
dozen tokens, and some run on to the limit.

Keys and values of all rows stay within the budget of tokens, and exist once: the cache is laid out anew layer
by layer, and shrinks to what is used before new rows are computed. Rows join as long as there is room for the
next tokens of all, not for all that they may need. When it is used up, the rows with the fewest tokens leave,
wait for a place, and are read again.

Shapes: B rows still running, T tokens of the padded rows, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext

import numpy as np
import torch
from transformers import DynamicCache

from pipeline_lib.core.errors import UserError
from pipeline_lib.engine.cache import (
    States,
    fill_gaps,
    last_states,
    rearrange,
    reserved_cache,
    select_rows,
)
from pipeline_lib.engine.choosing import choose
from pipeline_lib.engine.settings import Decoding, Sampling
from pipeline_lib.engine.wanted import Generation, Source, Wanted, can_join, columns, fitting
from pipeline_lib.models.forward import position_ids
from pipeline_lib.models.memory import does_not_fit, no_example_fits

FREE = 0.25  # of the rows of a batch: worth filling up


def continue_rows(
    model,
    source: Source,
    sampling: Sampling | None,
    decoding: Decoding,
    on_progress: Callable[[int], object],
) -> dict[int, Generation]:
    """What follows each row of `source`, with what was known of its answer before it, by the row's number.

    A batch that does not fit in memory is given up: its rows are read again, and half as many run together.
    """
    results: dict[int, Generation] = {}
    batch, budget = _Batch(model, sampling, decoding), decoding.max_tokens_per_batch
    waiting: list[Wanted] = []  # rows that were taken, and have not joined the batch
    while True:
        failed: RuntimeError | None = None
        try:
            if batch.asks:
                _take(batch, waiting, source, budget)
            if batch.asks or batch.full:
                _lay_out(batch, waiting, budget)
            if not batch.running:
                return results
            batch.step()
        except RuntimeError as error:
            if not does_not_fit(error):
                raise
            failed = error.with_traceback(None)  # which holds tensors
        if batch.ended:
            results |= batch.ended
            on_progress(len(batch.ended))
            batch.ended = {}
        if failed is not None:
            rows = batch.given_up()
            if len(rows) < 2:
                raise no_example_fits(failed)
            waiting[:0] = rows
            budget = len(rows) // 2 * max(row.soon for row in rows)


def _take(batch: _Batch, waiting: list[Wanted], source: Source, budget: int) -> None:
    """Take rows that are worth it beside those that run or wait."""
    while free := source.free([*batch.now(), *waiting], budget):
        batch.shrink()
        waiting += source.take(free)


def _lay_out(batch: _Batch, waiting: list[Wanted], budget: int) -> None:
    """Let rows that wait join the batch if it asks for some, or others leave it if it is full."""
    size = fitting(batch.model, batch.now(), waiting, budget) if batch.asks else 0
    new, out = waiting[:size], []
    if batch.full and not new:
        out = batch.put_back(budget)
    left = [row.after([], 0) for row in waiting[size:]]  # without states, which would lie outside the budget
    waiting[:] = [*out, *left]
    batch.asks = False
    if new or batch.full:
        batch.lay_out(new, budget)


class _Batch:
    """Rows that run, with their keys and values.

    `running`: which of `rows` each row of the cache is. `ended`: whole answers, until they are taken.
    `asks`: whether new rows may be worth it. `full`: whether there is no room for a next token, so that the
    rows have to be laid out.
    """

    def __init__(self, model, sampling: Sampling | None, decoding: Decoding):
        self.model, self._sampling, self._decoding = model, sampling, decoding
        self._device = model.get_input_embeddings().weight.device
        self._joining = can_join(model)
        self.ended: dict[int, Generation] = {}
        self._hold([])

    def _hold(self, rows: Sequence[Wanted]) -> None:
        self.rows = [row.after([], 0) for row in rows]  # without states, of which the cache has copies
        self.running = list(range(len(rows)))
        self._answers = [[*row.tokens[row.begun :]] for row in rows]
        self._steps, self.asks, self.full = 0, not rows, False
        if not rows:
            self._cache: DynamicCache | None = None

    def now(self) -> list[Wanted]:
        """The rows that run, with what they have generated."""
        return [self.rows[i].after(self._answers[i], self._steps) for i in self.running]

    def given_up(self) -> list[Wanted]:
        """The rows as they are now, out of the batch, whose memory is free again."""
        rows = self.now()
        self._hold([])
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        return rows

    @torch.inference_mode()
    def put_back(self, budget: int) -> list[Wanted]:
        """Rows for whose next tokens there is no room, the shortest, out of the batch."""
        now = self.now()
        longest = sorted(range(len(now)), key=lambda place: -len(now[place].tokens))
        size = max(1, fitting(self.model, (), [now[place] for place in longest], budget))
        self._keep(fill_gaps(len(now), set(longest[size:])))
        return [now[place] for place in longest[size:]]

    @torch.inference_mode()
    def shrink(self) -> None:
        """Keep no more than what the rows have used."""
        if self._cache is not None and not self.full:
            lengths = [len(row.tokens) - 1 for row in self.now()]
            rearrange(self._cache, list(enumerate(lengths)), [], max(lengths))
            self.full = True

    @torch.inference_mode()
    def lay_out(self, new: Sequence[Wanted], budget: int) -> None:
        """The rows that run and new ones, each at the end of its columns, with room for what follows."""
        kept = [(place, len(row.tokens) - 1) for place, row in enumerate(self.now())]
        self._hold([*self.now(), *new])  # from here on an error loses no row
        first = self.rows
        self._columns = columns(self.model, first, budget)
        if kept or any(row.states is not None for row in new):
            with self._autocast():
                states = self._states(new)
            if self._cache is None:
                self._cache = reserved_cache(self.model.config, self._columns)
            rearrange(self._cache, kept, states, self._columns)
        else:
            first = list({row.prompt: row for row in first}.values())  # each prompt once
            self._cache = reserved_cache(self.model.config, self._columns)
        places = {row.prompt: place for place, row in enumerate(first)}
        self._owners = [places[row.prompt] for row in self.rows] if len(first) < len(self.rows) else None
        input_ids, mask = _padded([row.tokens for row in first], self._decoding.pad_id, self._device)
        self._width = input_ids.shape[1]
        self._mask = torch.nn.functional.pad(mask, (0, self._columns - self._width), value=1)  # (B, columns)
        read = self._cache.get_seq_length()
        self._input_ids, self._positions = input_ids[:, read:], position_ids(mask)[:, read:]
        self._uniforms = _uniforms(self.rows, self._device)

    def _states(self, new: Sequence[Wanted]) -> list[States]:
        """Keys and values of the rows' tokens but the last; each prompt is read once."""
        read = {row.prompt: row.tokens[:-1] for row in new if row.states is None and len(row.tokens) > 1}
        found: dict[int, States] = {}
        if read:
            input_ids, mask = _padded(list(read.values()), self._decoding.pad_id, self._device)
            cache = reserved_cache(self.model.config, input_ids.shape[1])
            self.model.get_decoder()(
                input_ids=input_ids,
                attention_mask=mask,
                position_ids=position_ids(mask),
                past_key_values=cache,
                use_cache=True,
            )
            lengths = list(enumerate(map(len, read.values())))
            found = dict(zip(read, last_states(cache, lengths), strict=True))
        nothing = States([], 0)
        return [found.get(row.prompt, nothing) if row.states is None else row.states for row in new]

    @torch.inference_mode()
    def step(self) -> None:
        """The next token of each row."""
        with self._autocast():
            logits = self.model(
                input_ids=self._input_ids,
                attention_mask=self._mask[:, : self._width + self._steps],
                position_ids=self._positions,
                past_key_values=self._cache,
                use_cache=True,
                logits_to_keep=1,
            ).logits[:, -1]  # (B, V)
        if self._owners is not None:
            logits = logits[self._owners]
            self._select(self._owners)
            self._owners = None
        logits = logits.float()
        if not math.isfinite(float(logits.amax(-1).sum())):  # a NaN is the largest of its row
            raise UserError(
                "the model's logits are not finite, so it gives no answer. Its weights are broken (a "
                "diverged run), or the compute type overflows: try fp32, or train it again."
            )
        uniforms = None if self._uniforms is None else self._uniforms[self.running, self._steps]  # (B,)
        chosen = choose(logits, self._sampling, uniforms)  # (B,)
        self._steps += 1
        dropped = set()
        for place, (i, token) in enumerate(zip(self.running, chosen.tolist(), strict=True)):
            row, ended = self.rows[i], token in self._decoding.ends
            if not ended:
                self._answers[i].append(token)
            if ended or self._steps == row.limit:
                self.ended[row.number] = Generation(self._answers[i], ended)
                dropped.add(place)
        self._input_ids, self._positions = chosen[:, None], self._positions[:, -1:] + 1  # (B, 1)
        if len(dropped) == len(self.running):
            self._hold([])
        elif dropped:
            self._keep(fill_gaps(len(self.running), dropped))
            self.asks = self._joining and len(self.running) <= (1 - FREE) * len(self.rows)
        self.full = self._width + self._steps > self._columns

    def _keep(self, kept: Sequence[int]) -> None:
        """Go on with these rows of those that run."""
        self.running = [self.running[place] for place in kept]
        self._input_ids = self._input_ids[kept]
        self._select(kept)

    def _select(self, rows: Sequence[int]) -> None:
        assert self._cache is not None
        select_rows(self._cache, rows, self._device)
        self._mask, self._positions = self._mask[rows], self._positions[rows]

    def _autocast(self) -> AbstractContextManager[object]:
        narrow = self._decoding.compute == "bf16"
        return torch.autocast(self._device.type, torch.bfloat16) if narrow else nullcontext()


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
