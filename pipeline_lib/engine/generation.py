"""Answers of a model, greedy or drawn: batched, left-padded, with a cache; rows that ended leave the batch.

Shapes: B rows still running, T tokens of the padded prompt, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from pipeline_lib.core.errors import UserError
from pipeline_lib.engine.cache import States, fill_gaps, reserved_cache, resumed_cache, select_rows
from pipeline_lib.engine.choosing import Choice, draw, greedy
from pipeline_lib.models.forward import context_length, position_ids
from pipeline_lib.models.memory import halve_on_out_of_memory


@dataclass(frozen=True)
class Generation:
    """New tokens without the end token; `ended` says whether the model produced one within the limit."""

    tokens: list[int]
    ended: bool


@dataclass(frozen=True)
class _Wanted:
    """One row to generate. `uniforms` are its random numbers, one a token; None: greedy."""

    prompt: int  # number of the prompt; rows of one prompt share its computation
    tokens: Sequence[int]
    limit: int
    uniforms: np.ndarray | None = None
    states: States | None = None  # of all tokens but the last, if they were computed before

    @property
    def room(self) -> int:
        return len(self.tokens) + self.limit


def generate(
    model,
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int | Sequence[int],
    end_id: int | Collection[int],
    pad_id: int,
    max_tokens_per_batch: int,
    compute: str = "fp32",
    states: Sequence[States] | None = None,
    on_progress: Callable[[int], object] = lambda prompts: None,
) -> list[Generation]:
    """The greedy continuation of each tokenised prompt, in the order given.

    `max_new_tokens`: one limit, or one a prompt; the end token counts. `end_id`: one end token or several.
    Prompts of similar length share a batch of at most `max_tokens_per_batch` tokens (prompt and limit
    together). `compute` "bf16" runs matrix products under autocast: faster on a GPU, and near ties between
    two tokens may fall the other way; "fp32" takes the weights as they are. `states`: keys and values of each
    prompt's tokens but the last, where they are known.

    Raises `UserError` where the model's logits are not finite.
    """
    limits = [max_new_tokens] * len(prompts) if isinstance(max_new_tokens, int) else list(max_new_tokens)
    wanted = [
        _Wanted(i, prompt, limit, states=None if states is None else states[i])
        for i, (prompt, limit) in enumerate(zip(prompts, limits, strict=True))
    ]
    return _run(model, wanted, greedy, end_id, pad_id, max_tokens_per_batch, compute, on_progress)


def continue_greedily(
    model,
    prompts: Sequence[Sequence[int]],
    known: Sequence[Sequence[int]],
    states: Sequence[States | None],
    *,
    max_new_tokens: Sequence[int],
    end_id: int | Collection[int],
    on_progress: Callable[[int], object],
    **options: Any,
) -> list[Generation]:
    """Greedy answers of which the first tokens are known, the end token among them if it is reached.

    `states`: keys and values of a prompt and its known tokens but the last; None where they have to be
    computed. `max_new_tokens` limits each answer. The same as `generate` without them, up to rounding where
    two tokens are almost equally likely.
    """
    done: dict[int, Generation] = {}
    ends = _as_set(end_id)
    for i, (tokens, limit) in enumerate(zip(known, max_new_tokens, strict=True)):
        place = next((t for t, token in enumerate(tokens[:limit]) if token in ends), None)
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
            max_new_tokens=[max_new_tokens[i] - len(known[i]) for i in rest],
            end_id=ends,
            states=[own for i in rest if (own := states[i]) is not None] if resumed else None,
            on_progress=on_progress,
            **options,
        )
        for i, generation in zip(rest, generations, strict=True):
            done[i] = Generation([*known[i], *generation.tokens], generation.ended)
    return [done[i] for i in range(len(prompts))]


def sample(
    model,
    prompts: Sequence[Sequence[int]],
    *,
    n: int,
    seeds: Sequence[int],
    temperature: float,
    top_p: float,
    max_new_tokens: int,
    end_id: int | Collection[int],
    pad_id: int,
    max_tokens_per_batch: int,
    compute: str = "fp32",
    on_progress: Callable[[int], object] = lambda samples: None,
) -> list[list[Generation]]:
    """`n` random continuations of each prompt; the prompt itself is computed once and its cache repeated.

    A token is drawn from softmax(logits / temperature), cut to the smallest set of most likely tokens whose
    mass is at least `top_p` (nucleus sampling, Holtzman et al. 2020, arXiv 1904.09751, section 3.1), in fp32.
    Sample k of prompt i depends on `seeds[i]` and k alone: not on the batch, the order or n. `on_progress`
    is told how many samples are done.

    Raises `UserError` for a temperature that is not above 0, a `top_p` outside (0, 1], or n below 1.
    """
    if not 0 < temperature < math.inf:
        raise UserError(f"temperature must be above 0, found {temperature}; greedy answers need no sampling")
    if not 0 < top_p <= 1:
        raise UserError(f"top_p must be above 0 and at most 1, found {top_p}")
    if n < 1:
        raise UserError(f"the number of samples must be at least 1, found {n}")
    wanted = [
        _Wanted(i, prompt, max_new_tokens, np.random.default_rng([seed, k]).random(max_new_tokens))
        for i, (prompt, seed) in enumerate(zip(prompts, seeds, strict=True))
        for k in range(n)
    ]

    def choose(logits: torch.Tensor, uniforms: torch.Tensor | None) -> torch.Tensor:
        assert uniforms is not None
        return draw(logits, uniforms, temperature, top_p)

    flat = _run(model, wanted, choose, end_id, pad_id, max_tokens_per_batch, compute, on_progress)
    return [flat[i : i + n] for i in range(0, len(flat), n)]


def _as_set(end_id: int | Collection[int]) -> frozenset[int]:
    return frozenset([end_id] if isinstance(end_id, int) else end_id)


def _run(
    model,
    wanted: Sequence[_Wanted],
    choose: Choice,
    end_id: int | Collection[int],
    pad_id: int,
    max_tokens_per_batch: int,
    compute: str,
    on_progress: Callable[[int], object],
) -> list[Generation]:
    """All rows in batches within the budget, the longest first, so that what does not fit fails early."""
    ends = _as_set(end_id)
    order = sorted(range(len(wanted)), key=lambda i: (-wanted[i].room, wanted[i].prompt, i))
    results: dict[int, Generation] = {}
    while len(results) < len(wanted):
        rest = order[len(results) :]
        size = max(1, max_tokens_per_batch // wanted[rest[0]].room)
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
            [wanted[i] for i in batch],
            lambda part: _generate_batch(model, part, choose, ends, pad_id, compute),
        )
        results.update(zip(batch, generations, strict=True))
        on_progress(len(batch))
    return [results[i] for i in range(len(wanted))]


def _width(rows: Iterable[_Wanted]) -> int:
    """Tokens of each row of a batch of these, padding and all new tokens included."""
    lengths, limits = zip(*((len(row.tokens), row.limit) for row in rows), strict=True)
    return max(lengths) + max(limits)


@torch.inference_mode()
def _generate_batch(
    model, wanted: Sequence[_Wanted], choose: Choice, ends: frozenset[int], pad_id: int, compute: str
) -> list[Generation]:
    device = model.get_input_embeddings().weight.device
    prompts = {row.prompt: row.tokens for row in wanted}  # each once
    owner = {prompt: i for i, prompt in enumerate(prompts)}
    states = [row.states for row in wanted if row.states is not None]
    width = max(map(len, prompts.values()))
    room = width + max(row.limit for row in wanted)
    input_ids = torch.full((len(prompts), width), pad_id)  # (prompts, T)
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
    uniforms = None
    drawn = [row.uniforms for row in wanted if row.uniforms is not None]
    if drawn:
        uniforms = torch.tensor(np.stack(drawn), device=device)  # (B, limit); all limits are equal here

    new_tokens: list[list[int]] = [[] for _ in wanted]
    ended = [False] * len(wanted)
    running = list(range(len(wanted)))  # which row of `wanted` each row of the batch is
    with torch.autocast(device.type, torch.bfloat16) if compute == "bf16" else nullcontext():
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
            chosen = choose(logits, None if uniforms is None else uniforms[running, step])  # (B,)
            dropped = set()
            for row, (number, token) in enumerate(zip(running, chosen.tolist(), strict=True)):
                ended[number] = token in ends
                if not ended[number]:
                    new_tokens[number].append(token)
                if ended[number] or step + 1 == wanted[number].limit:
                    dropped.add(row)
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
