"""Which layers are looked into: all, or every k-th of them. Readable without torch."""

from __future__ import annotations

from typing import Literal

Every = int | Literal["all"]


def chosen_layers(every: Every, count: int) -> list[int]:
    """Numbers, from 0, of the layers looked into, of `count`: the k-th, the 2k-th and so on, and the last.

    The last one gives the model's output, beside which the others are read. `layers_fault` says where there
    is nothing to choose.
    """
    step = 1 if every == "all" else every
    return sorted({*range(step - 1, count, step), count - 1})


def layers_fault(every: Every, count: int) -> str | None:
    """Why a model with `count` layers cannot be looked into so; None where it can."""
    if count < 2:
        return f"needs a model of two layers or more, which has an inside before its output; found {count}"
    if every != "all" and every >= count:
        return f"found {every}, and the model has {count} layers; take at most {count - 1}, or `all`"
    return None
