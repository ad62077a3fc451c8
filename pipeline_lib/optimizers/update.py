"""What an update of single coordinates is, for those who write one and for those who run it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch.optim import Optimizer as TorchOptimizer

    from pipeline_lib.distributed.group import Group
else:  # for annotations: optimisers are read without torch
    Group = TorchOptimizer = Any

# (theta, gradient, *states, *coefficients) -> quantities that are summed over all coordinates: tensors.
# Changes theta and the states in place, never the gradient. Coefficients are 0-dimensional tensors.
Update = Callable[..., tuple[Any, ...]]

Groups = Sequence[dict[str, Any]]  # parameter groups, as torch's optimisers take them


@dataclass(frozen=True)
class Twin:
    """What there is to know of an update's kernel in `triton_updates`; both are tried against each other."""

    kernel: str  # its name there
    states: int
    changed: int  # the first so many states are written back
    sums: int
    probe: tuple[float, ...]  # coefficients with which the kernel is tried: each of them matters
