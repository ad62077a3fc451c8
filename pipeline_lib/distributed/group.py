"""The processes that train one model together, and what they add up.

Everything a run decides (losses, gradients, curvature) is a sum over the rows of a step. Each process works
on rows of its own (`distributed.pieces`), and a group adds up the parts. `ALONE` is the group of one process:
it adds nothing, so that a run in one process is what it would be without groups.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist

from pipeline_lib.core.errors import UserError

LARGE = 1 << 20  # elements: a gradient of so many is sent where it lies, smaller ones are joined first


class Group:
    """One process alone, and the interface of the other groups."""

    rank: int = 0
    size: int = 1
    writes: bool = True  # this process writes the files of the run
    shards: bool = False  # models are to be divided among the processes before they are trained
    sharded: bool = False  # models are divided: each process holds a part of every parameter

    def held(self, leaf: torch.Tensor) -> torch.Tensor:
        """The tensor that the optimiser works on for this tensor of the model."""
        return leaf

    def leaves(self, parameters: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """The tensors that autograd knows, for these tensors of the optimiser."""
        return list(parameters)

    def backward(self, output: torch.Tensor, slope: Any, parameters: Sequence[torch.Tensor]) -> None:
        """Add to the leaves' `.grad`; `slope` is d(loss)/d(output), None for a scalar output."""
        torch.autograd.backward(output, slope, inputs=list(parameters))

    def take_gradients(self, parameters: Sequence[torch.Tensor]) -> None:
        """Make the `.grad` of the optimiser's parameters the sum over all processes."""

    def collected(self, parameters: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """The sum over all processes of the leaves' `.grad`; zeros where there is none."""
        return [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]

    def sum_(self, tensors: Sequence[torch.Tensor]) -> None:
        """Sum over the processes, in place; every process ends with the same bits."""

    def sums(self, numbers: dict[str, float]) -> dict[str, float]:
        """Each number summed over the processes, in fp64."""
        return numbers

    def over_parts(self, numbers: Sequence[float]) -> list[float]:
        """Sums over all coordinates, from those over the coordinates that each process holds."""
        return list(numbers)

    def norm(self, parameters: Sequence[torch.Tensor]) -> torch.Tensor:
        """L2 norm of the gradients of all parameters, over all their coordinates."""
        return torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])

    def stepped(self) -> None:
        """Called once after each step of the optimiser."""

    def of_first(self, flag: bool) -> bool:
        """The first process's flag."""
        return flag

    def broadcast_(self, tensor: torch.Tensor) -> torch.Tensor:
        """The first process's tensor, in place."""
        return tensor

    def check_same(self, value: int, what: str) -> None:
        """Wait for all processes; `UserError` unless every one has this number."""

    def whole(self, parameter: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
        """The whole of a tensor that belongs to `parameter`, of which this process holds `values`."""
        return values

    def part(self, parameter: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
        """The part that this process holds of a whole tensor that belongs to `parameter`."""
        return values


ALONE = Group()


class Replicas(Group):
    """Each process holds the whole model and all states. Gradients are summed, so all copies stay the same.

    Sums of gradients in half precision are taken in fp32 and rounded once. `shards`: see `Group`.
    """

    def __init__(self, shards: bool = False) -> None:
        self.shards = shards
        self.rank, self.size = dist.get_rank(), dist.get_world_size()
        self.writes = self.rank == 0

    def take_gradients(self, parameters):
        self.sum_([p.grad for p in parameters if p.grad is not None])

    def collected(self, parameters):
        total = super().collected(parameters)
        self.sum_(total)
        return total

    def sum_(self, tensors):
        waiting = []
        small: dict[tuple[torch.dtype, torch.device], list[torch.Tensor]] = {}
        for tensor in tensors:
            if tensor.numel() >= LARGE and tensor.is_contiguous() and tensor.dtype not in _HALF:
                waiting.append(dist.all_reduce(tensor, async_op=True))
            else:
                small.setdefault((tensor.dtype, tensor.device), []).append(tensor)
        for members in small.values():
            for bucket in _buckets(members):
                joined = torch.cat([tensor.reshape(-1) for tensor in bucket])
                wide = joined.float() if joined.dtype in _HALF else joined
                dist.all_reduce(wide)
                for tensor, values in zip(bucket, wide.split([t.numel() for t in bucket]), strict=True):
                    tensor.copy_(values.view(tensor.shape))
        for work in waiting:
            work.wait()

    def sums(self, numbers):
        total = torch.tensor(list(numbers.values()), dtype=torch.float64, device=_place())
        dist.all_reduce(total)
        return dict(zip(numbers, total.tolist(), strict=True))

    def of_first(self, flag):
        return bool(self.broadcast_(torch.tensor(flag, dtype=torch.int64, device=_place())))

    def broadcast_(self, tensor):
        dist.broadcast(tensor, src=0)
        return tensor

    def check_same(self, value, what):
        held = torch.zeros(self.size, dtype=torch.int64, device=_place())
        held[self.rank] = value
        dist.all_reduce(held)
        found = held.tolist()
        if any(other != found[0] for other in found):
            raise UserError(
                f"the processes of this job do not agree on {what}: {', '.join(map(str, found))} (in the "
                "order of their ranks); they must read the same files: put results/ where all nodes see it"
            )


_HALF = (torch.bfloat16, torch.float16)


def _buckets(tensors: Sequence[torch.Tensor]) -> list[list[torch.Tensor]]:
    """The tensors in order, in buckets of about `LARGE` elements."""
    buckets: list[list[torch.Tensor]] = []
    filled = LARGE
    for tensor in tensors:
        if filled >= LARGE:
            buckets.append([])
            filled = 0
        buckets[-1].append(tensor)
        filled += tensor.numel()
    return buckets


def _place() -> torch.device:
    """Where small numbers are exchanged: NCCL knows GPU memory alone."""
    return torch.device("cuda" if dist.get_backend() == "nccl" else "cpu")


_shards = False  # whether the job of this process divides models


def set_sharding(wanted: bool) -> None:
    """Called by `distributed.worker` once, before `current`."""
    global _shards  # noqa: PLW0603  # a fact of the process, as its rank is
    _shards = wanted


def current() -> Group:
    """The group that `distributed.worker` has joined, or `ALONE`."""
    return Replicas(_shards) if dist.is_available() and dist.is_initialized() else ALONE
