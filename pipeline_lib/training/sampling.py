"""Which examples each step sees: a pure function of seed and step, so that resuming needs no state."""

from __future__ import annotations

import hashlib

import torch


def derived_seed(*parts: object) -> int:
    """A 63-bit seed from any parts; the same on every machine and in every process."""
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def _permutation(n: int, *parts: object) -> list[int]:
    generator = torch.Generator().manual_seed(derived_seed(*parts))
    return torch.randperm(n, generator=generator).tolist()


def epoch_rows(n: int, size: int, step: int, seed: int) -> list[int]:
    """Rows of the main set in this step, counted from 0: each once an epoch; the last step may be short."""
    steps = -(-n // size)
    epoch, within = divmod(step, steps)
    return _permutation(n, seed, "main", epoch)[within * size : (within + 1) * size]


def stream_rows(n: int, size: int, step: int, seed: int) -> list[int]:
    """Rows of a set that is walked round and round in fresh orders, `size` a step, whatever its length."""
    rows = []
    for position in range(step * size, (step + 1) * size):
        lap, within = divmod(position, n)
        rows.append((lap, within))
    orders = {lap: _permutation(n, seed, "stream", lap) for lap in {lap for lap, _ in rows}}
    return [orders[lap][within] for lap, within in rows]
