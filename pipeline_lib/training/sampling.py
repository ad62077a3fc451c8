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
    epoch, within = divmod(step, -(-n // size))
    return _permutation(n, seed, "main", epoch)[within * size : (within + 1) * size]


def rows_before(n: int, size: int, step: int) -> int:
    """How many rows of the main set the steps before `step` have seen."""
    epoch, within = divmod(step, -(-n // size))
    return epoch * n + within * size


def stream_rows(n: int, start: int, count: int, seed: int) -> list[int]:
    """Places `start` to `start + count` of a walk round and round a set of `n`, each lap in a fresh order."""
    places = [divmod(place, n) for place in range(start, start + count)]  # (lap, place in it)
    orders = {lap: _permutation(n, seed, "stream", lap) for lap in {lap for lap, _ in places}}
    return [orders[lap][within] for lap, within in places]
