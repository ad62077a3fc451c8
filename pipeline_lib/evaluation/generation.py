"""Greedy answers: batched, left-padded, with a key-value cache; rows that have ended leave the batch.

Shapes: B rows still running, T tokens of the padded prompt, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from transformers import DynamicCache

from pipeline_lib.evaluation.scoring import halve_on_out_of_memory
from pipeline_lib.models.forward import position_ids


@dataclass(frozen=True)
class Generation:
    """New tokens without the end token; `ended` says whether the model produced one within the limit."""

    tokens: list[int]
    ended: bool


def generate(
    model,
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    end_id: int,
    pad_id: int,
    max_tokens_per_batch: int,
    compute: str = "fp32",
    on_progress: Callable[[int], object] = lambda prompts: None,
) -> list[Generation]:
    """The greedy continuation of each tokenised prompt, in the order given.

    Prompts of similar length share a batch of at most `max_tokens_per_batch` tokens (prompt and limit
    together). `compute` "bf16" runs matrix products under autocast: faster on a GPU, and near ties between
    two tokens may fall the other way; "fp32" takes the weights as they are.
    """
    order = sorted(range(len(prompts)), key=lambda i: (-len(prompts[i]), i))  # longest first: fails early
    results: dict[int, Generation] = {}
    while len(results) < len(prompts):
        rest = order[len(results) :]
        size = max(1, max_tokens_per_batch // (len(prompts[rest[0]]) + max_new_tokens))
        batch = rest[:size]
        generations = halve_on_out_of_memory(
            [prompts[i] for i in batch],
            lambda part: _generate_batch(model, part, max_new_tokens, end_id, pad_id, compute),
        )
        results.update(zip(batch, generations, strict=True))
        on_progress(len(batch))
    return [results[i] for i in range(len(prompts))]


@torch.inference_mode()
def _generate_batch(
    model,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
    end_id: int,
    pad_id: int,
    compute: str,
) -> list[Generation]:
    device = model.get_input_embeddings().weight.device
    width = max(len(prompt) for prompt in prompts)
    input_ids = torch.full((len(prompts), width), pad_id)  # (B, T)
    mask = torch.zeros((len(prompts), width), dtype=torch.int64)
    for row, prompt in enumerate(prompts):
        input_ids[row, width - len(prompt) :] = torch.tensor(prompt)
        mask[row, width - len(prompt) :] = 1
    input_ids, mask = input_ids.to(device), mask.to(device)
    positions = position_ids(mask)
    cache = DynamicCache(config=model.config)
    new_tokens: list[list[int]] = [[] for _ in prompts]
    ended = [False] * len(prompts)
    running = list(range(len(prompts)))  # the prompt each row of the batch belongs to
    with torch.autocast(device.type, torch.bfloat16) if compute == "bf16" else nullcontext():
        for step in range(max_new_tokens):
            logits = model(
                input_ids=input_ids,
                attention_mask=mask,
                position_ids=positions,
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            ).logits[:, -1]  # (B, V)
            chosen = logits.float().argmax(-1)  # (B,)
            for number, token in zip(running, chosen.tolist(), strict=True):
                if token == end_id:
                    ended[number] = True
                else:
                    new_tokens[number].append(token)
            keep = [row for row, number in enumerate(running) if not ended[number]]
            if not keep or step == max_new_tokens - 1:
                break
            if len(keep) < len(running):
                kept = torch.tensor(keep, device=device)
                cache.batch_select_indices(kept)
                chosen, mask, positions = chosen[kept], mask[kept], positions[kept]
                running = [running[row] for row in keep]
            input_ids = chosen[:, None]  # (B, 1)
            positions = positions[:, -1:] + 1
            mask = torch.cat([mask, mask.new_ones(len(running), 1)], dim=1)
    return [Generation(tokens, end) for tokens, end in zip(new_tokens, ended, strict=True)]
