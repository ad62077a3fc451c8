"""Answers of a model, greedy or drawn: batched, left-padded, with a cache. Finished rows leave the batch.

Shapes: B rows still running, T tokens of the padded prompt, V vocabulary.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
import torch

from pipeline_lib.core.errors import UserError
from pipeline_lib.engine.cache import States, fill_gaps, reserved_cache, resumed_cache, select_rows
from pipeline_lib.engine.choosing import choose
from pipeline_lib.engine.settings import Decoding, Sampling
from pipeline_lib.models.forward import context_length, position_ids
from pipeline_lib.models.memory import halve_on_out_of_memory


@dataclass(frozen=True)
class Generation:
    """New tokens without the end token; `ended` says whether the model produced one within the limit."""

    tokens: list[int]
    ended: bool


@dataclass(frozen=True)
class _Wanted:
    """One row to generate."""

    prompt: int  # number of the prompt; rows of one prompt share its computation
    tokens: Sequence[int]
    limit: int
    uniforms: np.ndarray | None = None  # its random numbers, one a token; None: greedy
    states: States | None = None  # of all tokens but the last, if they were computed before

    @property
    def room(self) -> int:
        return len(self.tokens) + self.limit


def generate(
    model,
    prompts: Sequence[Sequence[int]],
    decoding: Decoding,
    *,
    max_new_tokens: int | Sequence[int],
    states: Sequence[States] | None = None,
    on_progress: Callable[[int], object] = lambda prompts: None,
) -> list[Generation]:
    """The greedy continuation of each tokenised prompt, in the order given.

    `max_new_tokens`: one limit, or one a prompt; the end token counts. Prompts of similar length share a
    batch. `states`: keys and values of each prompt's tokens but the last, where they are known.

    Raises `UserError` where the model's logits are not finite.
    """
    limits = [max_new_tokens] * len(prompts) if isinstance(max_new_tokens, int) else list(max_new_tokens)
    wanted = [
        _Wanted(i, prompt, limit, states=None if states is None else states[i])
        for i, (prompt, limit) in enumerate(zip(prompts, limits, strict=True))
    ]
    return _run(model, wanted, None, decoding, on_progress)


def continue_greedily(
    model,
    prompts: Sequence[Sequence[int]],
    known: Sequence[Sequence[int]],
    states: Sequence[States | None],
    decoding: Decoding,
    *,
    max_new_tokens: Sequence[int],
    on_progress: Callable[[int], object],
) -> list[Generation]:
    """Greedy answers of which the first tokens are known, the end token among them if it is reached.

    `states`: keys and values of a prompt and its known tokens but the last; None where they have to be
    computed. `max_new_tokens` limits each answer. Gives what `generate` gives without the known tokens, up to
    rounding where two tokens are almost equally likely.
    """
    done: dict[int, Generation] = {}
    for i, (tokens, limit) in enumerate(zip(known, max_new_tokens, strict=True)):
        place = next((t for t, token in enumerate(tokens[:limit]) if token in decoding.ends), None)
        if place is not None:
            done[i] = Generation(list(tokens[:place]), True)
        elif len(tokens) >= limit:
            done[i] = Generation(list(tokens[:limit]), False)
    on_progress(len(done))
    for resumed in (True, False):
        rest = [i for i in range(len(prompts)) if i not in done and (states[i] is not None) == resumed]
        generations = generate(
            model,
            [[*prompts[i], *known[i]] for i in rest],
            decoding,
            max_new_tokens=[max_new_tokens[i] - len(known[i]) for i in rest],
            states=[own for i in rest if (own := states[i]) is not None] if resumed else None,
            on_progress=on_progress,
        )
        for i, generation in zip(rest, generations, strict=True):
            done[i] = Generation([*known[i], *generation.tokens], generation.ended)
    return [done[i] for i in range(len(prompts))]


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
    wanted = [
        _Wanted(i, prompt, max_new_tokens, np.random.default_rng([seed, k]).random(max_new_tokens))
        for i, (prompt, seed) in enumerate(zip(prompts, seeds, strict=True))
        for k in range(n)
    ]
    flat = _run(model, wanted, sampling, decoding, on_progress)
    return [flat[i : i + n] for i in range(0, len(flat), n)]


def _run(
    model,
    wanted: Sequence[_Wanted],
    sampling: Sampling | None,
    decoding: Decoding,
    on_progress: Callable[[int], object],
) -> list[Generation]:
    """All rows in batches within the budget, the longest first, so that what does not fit fails early."""
    order = sorted(range(len(wanted)), key=lambda i: (-wanted[i].room, wanted[i].prompt, i))
    results: dict[int, Generation] = {}
    while len(results) < len(wanted):
        rest = order[len(results) :]
        size = max(1, decoding.max_tokens_per_batch // wanted[rest[0]].room)
        if size < len(rest) and wanted[rest[0]].prompt != wanted[rest[size]].prompt:
            while wanted[rest[size - 1]].prompt == wanted[rest[size]].prompt:
                size -= 1  # the rows of one prompt stay together, or it would be computed twice
        # Tables of positions or masks end at the context, padding included.
        context = context_length(model)
        most = math.inf if context is None else max(context, wanted[rest[0]].room)
        while size > 1 and _width(wanted[i] for i in rest[:size]) > most:
            size -= 1
        batch = rest[:size]
        generations = halve_on_out_of_memory(
            [wanted[i] for i in batch], lambda part: _generate_batch(model, part, sampling, decoding)
        )
        results.update(zip(batch, generations, strict=True))
        on_progress(len(batch))
    return [results[i] for i in range(len(wanted))]


def _width(rows: Iterable[_Wanted]) -> int:
    """Tokens of every row in a batch of these, padding and all new tokens included."""
    lengths, limits = zip(*((len(row.tokens), row.limit) for row in rows), strict=True)
    return max(lengths) + max(limits)


@torch.inference_mode()
def _generate_batch(
    model, wanted: Sequence[_Wanted], sampling: Sampling | None, decoding: Decoding
) -> list[Generation]:
    device = model.get_input_embeddings().weight.device
    prompts = {row.prompt: row.tokens for row in wanted}  # each once
    owner = {prompt: i for i, prompt in enumerate(prompts)}
    states = [row.states for row in wanted if row.states is not None]
    width = max(map(len, prompts.values()))
    room = width + max(row.limit for row in wanted)
    input_ids = torch.full((len(prompts), width), decoding.pad_id)  # (prompts, T)
    mask = torch.ones((len(prompts), room), dtype=torch.int64)
    for i, prompt in enumerate(prompts.values()):
        input_ids[i, width - len(prompt) :] = torch.tensor(prompt)
        mask[i, : width - len(prompt)] = 0
    input_ids, mask = input_ids.to(device), mask.to(device)
    positions = position_ids(mask)[:, :width]
    if states:  # all of them have some, see continue_greedily
        cache = resumed_cache(model.config, states, room)
        input_ids, positions = input_ids[:, -1:], positions[:, -1:]
    else:
        cache = reserved_cache(model.config, room)
    drawn = [row.uniforms for row in wanted if row.uniforms is not None]
    # (B, limit); all limits are equal where answers are drawn
    uniforms = torch.tensor(np.stack(drawn), device=device) if drawn else None

    new_tokens: list[list[int]] = [[] for _ in wanted]
    ended = [False] * len(wanted)
    running = list(range(len(wanted)))  # which row of `wanted` each row of the batch is
    with torch.autocast(device.type, torch.bfloat16) if decoding.compute == "bf16" else nullcontext():
        for step in range(room - width):
            logits = model(
                input_ids=input_ids,
                attention_mask=mask[:, : width + step],
                position_ids=positions,
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            ).logits[:, -1]  # (B, V)
            if step == 0 and len(wanted) > len(prompts):
                rows = [owner[row.prompt] for row in wanted]
                select_rows(cache, rows, device)
                logits, mask, positions = logits[rows], mask[rows], positions[rows]
            logits = logits.float()
            if not math.isfinite(float(logits.amax(-1).sum())):  # a NaN is the largest of its row
                raise UserError(
                    "the model's logits are not finite, so it gives no answer. Its weights are broken (a "
                    "diverged run), or the compute type overflows: try fp32, or train it again."
                )
            chosen = choose(logits, sampling, None if uniforms is None else uniforms[running, step])  # (B,)
            for number, token in zip(running, chosen.tolist(), strict=True):
                ended[number] = token in decoding.ends
                if not ended[number]:
                    new_tokens[number].append(token)
            dropped = {row for row, i in enumerate(running) if ended[i] or step + 1 == wanted[i].limit}
            if len(dropped) == len(running):
                break
            if dropped:
                kept = fill_gaps(len(running), dropped)
                select_rows(cache, kept, device)
                chosen, mask, positions = chosen[kept], mask[kept], positions[kept]
                running = [running[row] for row in kept]
            input_ids = chosen[:, None]  # (B, 1)
            positions = positions[:, -1:] + 1
    return [Generation(tokens, end) for tokens, end in zip(new_tokens, ended, strict=True)]
