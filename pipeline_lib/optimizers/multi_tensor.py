"""All tensors of a type stepped by one or two launches of a Triton kernel, on a CUDA device.

A launch costs Python some 30 microseconds. With one launch a tensor, a fast GPU waits for Python in a model
of small tensors. Here the kernel gets a table of the tensors' addresses instead, made anew at every step
because gradients move, and a map from its programs to blocks of tensors, which is kept. As it reads bare
addresses, only tensors that are known to be dense, aligned and of one type are put into the table.

A process uses the kernel of an update only after it has stepped small tensors there as torch does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from operator import is_
from typing import Any

import numpy as np
import torch

from pipeline_lib.optimizers.update import Twin

BLOCK = 1024  # elements of a program of 128 threads: two 128-bit loads a thread and tensor in fp32
WARPS = 4
ALIGNMENT = 16  # bytes
HEAD = 1 << 24  # elements of a first launch: they keep a fast GPU busy while the second one is prepared
PLAIN = (torch.Tensor, torch.nn.Parameter)  # other classes may keep their elements elsewhere
TOLERANCES = {
    torch.float32: 1e-5,
    torch.bfloat16: 2**-7,
    torch.float16: 2**-10,
}  # half: one last digit
ALIKE = 0.99  # share of equal values in half precision; a kernel that cuts off instead of rounding has fewer


Row = tuple[torch.Tensor, ...]  # theta, gradient, states
Reference = Callable[..., tuple[torch.Tensor, ...]]  # (coefficients, *row) -> sums: the update in torch
Launch = Callable[..., None]  # (table, owners, blocks, sizes, coefficients, sums)
Rest = tuple[list[Row], torch.Tensor | None]  # rows left out; of the others, sums by quantity and program


@dataclass(frozen=True)
class Checked:
    """Parameters and states, their sizes, and in which rows the states fit their parameter."""

    tensors: list[torch.Tensor]
    sizes: list[int]
    fit: np.ndarray


Memory = dict[int, Checked]  # by the id of the first parameter, which stays alive in `tensors`


def serves(dtype: torch.dtype, device: torch.device) -> bool:
    """Whether kernels may be tried there."""
    return device.type == "cuda" and dtype in TOLERANCES


def to_device(values: torch.Tensor, device: torch.device) -> torch.Tensor:
    """A small copy; to a GPU it goes from page-locked memory, so that the host need not wait for the GPU."""
    return (values.pin_memory() if device.type == "cuda" else values).to(device, non_blocking=True)


def in_turn(rows: list[Row]) -> list[list[Row]]:
    """The rows of a first launch and, where there are more, of a second, prepared while the first runs."""
    size = 0
    for number, row in enumerate(rows, 1):
        size += row[0].numel()
        if size >= HEAD and number < len(rows):
            return [rows[:number], rows[number:]]
    return [rows]


class Stepper:
    """One update for tensors of one dtype on one device; raises where its kernel cannot be used."""

    def __init__(self, twin: Twin, dtype: torch.dtype, device: torch.device, reference: Reference):
        self.twin, self.dtype, self.device = twin, dtype, device
        self.launch = kernel_of(twin, dtype, device)
        for wild in (False, True):
            if not self._agrees(reference, wild):
                raise RuntimeError(f"on {device} its kernel does not do what torch does in {dtype}")

    def __call__(self, rows: Sequence[Row], scalars: torch.Tensor, memory: Memory) -> Rest:
        """Step the rows whose addresses can be used."""
        columns = list(zip(*rows, strict=True))
        each = map(torch.Tensor.data_ptr, chain.from_iterable(columns))
        table = np.fromiter(each, np.int64).reshape(len(columns), -1).T
        checked = self._checked(columns, memory)
        fit = checked.fit & (table % ALIGNMENT == 0).all(1) & (table != 0).all(1)
        fit &= [
            theta.is_contiguous() and gradient.is_contiguous() and gradient.dtype == self.dtype
            for theta, gradient in zip(*columns[:2], strict=True)
        ]
        rest, sizes = [], checked.sizes
        if not fit.all():
            rest = [row for row, fits in zip(rows, fit, strict=True) if not fits]
            sizes = [size for size, fits in zip(sizes, fit, strict=True) if fits]
            table = table[fit]
        if not sizes:
            return rest, None
        owners, blocks, on_device = programs(tuple(sizes), self.device)
        sums = torch.empty(self.twin.sums, len(owners), device=self.device)
        addresses = to_device(torch.from_numpy(np.ascontiguousarray(table)), self.device)
        self.launch(addresses, owners, blocks, on_device, scalars, sums)
        return rest, sums

    def _checked(self, columns: Sequence[Sequence[torch.Tensor]], memory: Memory) -> Checked:
        """States are checked only when they are new: that takes longer than the rest of a step's start."""
        thetas, _, *states = columns
        tensors, sizes = [*thetas, *chain.from_iterable(states)], [theta.numel() for theta in thetas]
        known = memory.get(id(thetas[0]))
        # Sizes come first: of one length, the lists of tensors have one length too.
        if known is None or known.sizes != sizes or not all(map(is_, known.tensors, tensors)):
            fit = [self._fits(theta, own) for theta, *own in zip(thetas, *states, strict=True)]
            known = memory[id(thetas[0])] = Checked(tensors, sizes, np.array(fit))
        return known

    def _fits(self, theta: torch.Tensor, states: Sequence[torch.Tensor]) -> bool:
        return theta.numel() > 0 and all(
            type(tensor) in PLAIN
            and tensor.is_contiguous()
            and (tensor.shape, tensor.dtype, tensor.device) == (theta.shape, self.dtype, self.device)
            for tensor in (theta, *states)
        )

    def _agrees(self, reference: Reference, wild: bool) -> bool:
        """Whether kernel and torch do the same to small tensors; `wild` ones hold NaN and infinities."""
        scalars = torch.tensor(self.twin.probe, device=self.device)
        rows = [self._drawn(size, wild) for size in (1, 7, BLOCK - 1, BLOCK, 3 * BLOCK + 5)]
        expected = [tuple(tensor.clone() for tensor in row) for row in rows]
        parts = [reference(scalars, *row) for row in expected]
        sums = torch.stack([torch.stack(part).double().sum() for part in zip(*parts, strict=True)])
        rest, found = self(rows, scalars, {})
        if rest or found is None:
            return False
        values, others = (torch.cat([t for row in made for t in row]) for made in (rows, expected))
        alike = torch.isclose(values, others, rtol=0, atol=0, equal_nan=True).float().mean() >= ALIKE
        return bool(
            torch.allclose(values, others, rtol=TOLERANCES[self.dtype], atol=1e-6, equal_nan=True)
            and torch.allclose(found.double().sum(1), sums, rtol=1e-4, equal_nan=True)
            and (alike or self.dtype == torch.float32)
        )

    def _drawn(self, size: int, wild: bool) -> Row:
        """Normal values of either sign, some of them zero: the same ones on every device."""
        generator = torch.Generator().manual_seed(size)
        row = [torch.randn(size, generator=generator) for _ in range(2 + self.twin.states)]
        for tensor in row[1:]:
            tensor[::5] = 0
        if wild:
            gradient, last = row[1], row[-1]
            gradient[1::7], gradient[2::7], gradient[3::7] = torch.nan, torch.inf, -torch.inf
            last[4::7] = torch.nan
        return tuple(tensor.to(self.device, self.dtype) for tensor in row)


@lru_cache(maxsize=256)  # several optimisers, or the blocks that one works through
def programs(sizes: tuple[int, ...], device: torch.device) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """For each program the number of its tensor and that of its block there; and the sizes."""
    counts = torch.tensor([-(-size // BLOCK) for size in sizes])
    owners = torch.arange(len(sizes)).repeat_interleave(counts)
    blocks = torch.arange(len(owners)) - (counts.cumsum(0) - counts)[owners]
    return owners.int().to(device), blocks.int().to(device), torch.tensor(sizes, device=device)


def constants_of(twin: Twin, dtype: torch.dtype) -> dict[str, Any]:
    """What the kernel is compiled for."""
    from pipeline_lib.optimizers import triton_updates

    return {
        "update": getattr(triton_updates, twin.kernel),
        "element": triton_updates.ELEMENTS[dtype],
        "states": twin.states,
        "changed": twin.changed,
        "block": BLOCK,
    }


def kernel_of(twin: Twin, dtype: torch.dtype, device: torch.device) -> Launch:
    """The Triton kernel of this update, compiled when it is first launched."""
    from pipeline_lib.optimizers import triton_updates

    constants = constants_of(twin, dtype)

    def launch(table: torch.Tensor, owners: torch.Tensor, *others: torch.Tensor) -> None:
        with torch.cuda.device(device) if device.type == "cuda" else nullcontext():
            triton_updates.step[(len(owners),)](table, owners, *others, **constants, num_warps=WARPS)

    return launch
