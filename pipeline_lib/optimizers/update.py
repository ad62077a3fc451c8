"""What an update of single coordinates is, for the optimisers that define one and the code that runs it."""

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
class Watch:
    """What is measured of every step beside it, from states of its own.

    `update` takes theta, the gradient, the states of the method and then its own `states`, and the
    coefficients of the method and then its own. It runs before the step and changes its own states alone;
    its sums follow those of the step.
    """

    update: Update
    states: tuple[str, ...]
    coefficients: Callable[[dict[str, Any]], tuple[float, ...]]  # from the settings of a parameter group


@dataclass(frozen=True)
class Twin:
    """An update's kernel in `triton_updates`; update and kernel are tested against each other."""

    kernel: str  # its name there
    states: int
    changed: int  # how many of the states, from the first, are written back
    sums: int
    probe: tuple[float, ...]  # coefficients with which the kernel is tried, such that each of them matters
