"""Run an elementwise update over all parameters with one pass over memory.

Optimisers whose step treats every coordinate alike only say what happens to one: `update`, in plain tensor
operations. Run on whole tensors, each of its ten operations would read and write main memory. Here a large
model's update is compiled into one loop (torch.compile: C++ on a CPU, Triton on a GPU). A small model, or one
whose update cannot be compiled, is stepped in pieces that stay in the processor's cache. Both ways give the
same numbers up to the order of rounding; the number of parameters alone decides which is taken, so that the
same run gives the same bits again. On a CUDA device a large model's tensors are first offered to
`multi_tensor`, which steps all of them with one or two launches.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from pipeline_lib.optimizers import multi_tensor
from pipeline_lib.optimizers.update import Groups, Twin, Update

CHUNK = 1 << 16  # elements of a piece when not compiled; measured best of 2^13 .. 2^17 on a CPU
COMPILE_FROM = 1 << 24  # parameters of an optimiser: with fewer, a run may end before compiling has paid off
SMALL = 1 << 14  # elements: smaller tensors share one call, which would cost each more than its arithmetic

Row = tuple[torch.Tensor, ...]  # theta, gradient, states: tensors of one shape


class ElementwiseOptimizer(torch.optim.Optimizer):
    """The torch optimiser of a `method` that is an `update` of single coordinates: see `base.Elementwise`.

    `statistics` holds facts of the last step: "update_norm", the L2 norm of the step without weight
    decay, and what the method adds. `over_parts`: see `distributed.group.Group`.
    """

    def __init__(self, params: Groups, method: Any, over_parts: Callable[[Sequence[float]], list[float]]):
        super().__init__(params, method.settings())
        self.method, self._over_parts = method, over_parts
        self.update, self.twin = method.update, method.twin
        self.statistics: dict[str, float] = {}
        self._checked: multi_tensor.Memory = {}

    def state_of(self, parameter: torch.Tensor) -> dict[str, Any]:
        state = self.state[parameter]
        if not state:
            watch = self.method.watch
            names = (*self.method.states, *(watch.states if watch else ()))
            state.update({name: torch.zeros_like(parameter) for name in names})
        return state

    @property
    def large(self) -> bool:
        """Whether its updates are compiled."""
        return sum(p.numel() for group in self.param_groups for p in group["params"]) >= COMPILE_FROM

    def rows(self, held: Sequence[torch.Tensor], names: Sequence[str]) -> Iterator[Row]:
        """A row for each of these parameters, which have gradients, with its states of these names."""
        for parameter in held:
            state = self.state_of(parameter)
            assert parameter.grad is not None
            yield (parameter, parameter.grad, *(state[name] for name in names))

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One step of every parameter that has a gradient."""
        self.conclude([self.advance()])

    @torch.no_grad()
    def advance(self) -> tuple[torch.Tensor | None, int]:
        """The step without its statistics: sums over the coordinates that took part, and their number.

        For a step that is taken part by part; `conclude` then ends it.
        """
        names, watch, large = self.method.states, self.method.watch, self.large
        sums, coordinates = [], 0
        for group in self.param_groups:
            held = [parameter for parameter in group["params"] if parameter.grad is not None]
            if held:
                coordinates += sum(parameter.numel() for parameter in held)
                coefficients, watched = self.method.coefficients(group), []
                if watch:
                    rows = self.rows(held, (*names, *watch.states))
                    watched = [
                        run(watch.update, None, rows, (*coefficients, *watch.coefficients(group)), large)
                    ]
                rows = self.rows(held, names)
                own = run(self.update, self.twin, rows, coefficients, large, self._checked)
                sums.append(torch.cat([own, *watched]))
        return (torch.stack(sums).sum(0) if sums else None), coordinates

    def conclude(self, parts: Sequence[tuple[torch.Tensor | None, int]]) -> list[float] | None:
        """Set the statistics of a step from what `advance` gave for each part of the parameters.

        Returns the sums over all parameters; None where no parameter had a gradient.
        """
        sums = [found for found, _ in parts if found is not None]
        if not sums:
            return None
        coordinates = sum(count for _, count in parts)
        *totals, size = self._over_parts([*torch.stack(sums).sum(0).tolist(), coordinates])
        self.statistics = self.method.statistics(self.param_groups, totals, round(size))
        return totals

    @torch.no_grad()
    def update_curvature(self, estimate: Sequence[torch.Tensor]) -> None:
        """Average one finite estimate a parameter, in the order of the parameter groups, into `curvature`."""
        pairs = [(group, parameter) for group in self.param_groups for parameter in group["params"]]
        for (group, parameter), value in zip(pairs, estimate, strict=True):
            curvature = self.state_of(parameter)["curvature"]
            curvature.lerp_(value.to(curvature.dtype), 1 - group["beta2"])
        for group in self.param_groups:
            group["estimates"] += 1


def run(
    update: Update,
    twin: Twin | None,
    rows: Iterable[Row],
    coefficients: tuple[float, ...],
    compiling: bool,
    checked: multi_tensor.Memory | None = None,
) -> torch.Tensor:
    """Apply `update` to each row in place; returns its sums over all rows, in fp64.

    `checked` is what `multi_tensor` knows of these rows from one step to the next.
    """
    kinds: dict[tuple[torch.dtype, torch.device], list[Row]] = {}
    for row in rows:
        kinds.setdefault((row[0].dtype, row[0].device), []).append(row)
    parts: list[tuple[torch.Tensor, ...]] = []
    for (dtype, device), members in kinds.items():
        # On the device, so that a changed learning rate needs no new compilation.
        precise = torch.float64 if dtype == torch.float64 else torch.float32
        scalars = multi_tensor.to_device(torch.tensor(coefficients, dtype=precise), device)
        if compiling and twin is not None and multi_tensor.serves(dtype, device):
            offered, members, launched = multi_tensor.in_turn(members), [], []
            for some in offered:
                left, sums = _all_at_once(update, twin, some, scalars, {} if checked is None else checked)
                members += left
                launched.append(sums)
            parts += [sums.double().sum(1).unbind() for sums in launched if sums is not None]
        large: list[Row] = []
        rest: list[Row] = []
        for theta, *others in members:
            row = (theta.detach(), *others)
            is_large = row[0].numel() >= SMALL and all(tensor.is_contiguous() for tensor in row)
            (large if is_large else rest).append(row)
        fused = compiled(update, large[0], scalars) if compiling and large else None
        parts += (
            [_apply(update, scalars, *piece) for row in large for piece in chunks(*row)]
            if fused is None
            else [fused(scalars, *[tensor.view(-1) for tensor in row]) for row in large]
        )
        if rest:
            with _joined(rest) as row:
                parts.extend(_apply(update, scalars, *piece) for piece in chunks(*row))
    return torch.stack([torch.stack(part).double().sum() for part in zip(*parts, strict=True)])


@contextmanager
def _joined(rows: list[Row]) -> Iterator[Row]:
    """One row with the elements of all; what is written to it is copied back, except the gradient."""
    columns = list(zip(*rows, strict=True))
    joined = tuple(torch.cat([tensor.reshape(-1) for tensor in column]) for column in columns)
    yield joined
    sizes = [tensor.numel() for tensor in columns[0]]
    for i, column in enumerate(columns):
        if i != 1:
            for tensor, values in zip(column, joined[i].split(sizes), strict=True):
                tensor.copy_(values.view(tensor.shape))


def _apply(update: Update, scalars: torch.Tensor, *row: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """One update and its sums. Half precision is computed in fp32 and rounded to nearest once, at the end."""
    theta, gradient, *states = row
    if theta.dtype in (torch.bfloat16, torch.float16):
        wide = [tensor.float() for tensor in row]
        quantities = update(*wide, *scalars.unbind())
        theta.copy_(wide[0])
        for state, value in zip(states, wide[2:], strict=True):
            state.copy_(value)
    else:
        quantities = update(theta, gradient, *states, *scalars.unbind())
    return tuple(quantity.sum() for quantity in quantities)  # counts are int64: exact


def chunks(*row: torch.Tensor) -> Iterator[Row]:
    """Aligned flat views of tensors of one shape, small enough for the processor's cache.

    On an accelerator, and for tensors whose elements are not in order, the tensors are yielded whole.
    """
    if row[0].device.type != "cpu" or not all(tensor.is_contiguous() for tensor in row):
        yield row
        return
    yield from zip(*(tensor.view(-1).split(CHUNK) for tensor in row), strict=True)


@dataclass(frozen=True)
class Compiled:
    """A compiled update, or None where that failed, and the seconds it took in this process."""

    function: Callable[..., Any] | None
    seconds: float


COMPILED: dict[tuple[object, ...], Compiled] = {}  # update, dtype, device, and "at once" for `multi_tensor`


def _all_at_once(
    update: Update, twin: Twin, rows: list[Row], scalars: torch.Tensor, checked: multi_tensor.Memory
) -> multi_tensor.Rest:
    """Step what one launch can step; returns the rows that are left, and the others' sums by program."""
    dtype, device = rows[0][0].dtype, rows[0][0].device
    key = (update, dtype, device, "at once")
    started = time.perf_counter()
    try:
        if key not in COMPILED:
            stepper = multi_tensor.Stepper(twin, dtype, device, partial(_apply, update))
            COMPILED[key] = Compiled(stepper, time.perf_counter() - started)
        function = COMPILED[key].function
        return (rows, None) if function is None else function(rows, scalars, checked)
    except Exception as error:  # before the launch nothing has changed
        print(
            f"The optimiser's update is called for each tensor and will be slower: {_said(error)}",
            file=sys.stderr,
        )
        COMPILED[key] = Compiled(None, time.perf_counter() - started)
        return rows, None


def _said(error: Exception) -> str:
    """The first line of what a compiler says, or the error's name."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def compiled(update: Update, row: Row, scalars: torch.Tensor) -> Callable[..., Any] | None:
    """`_apply` of this update as one kernel for tensors of any size; None if it cannot be compiled.

    torch keeps the generated code on disk: a later process only loads its compiler and that code.
    """
    key = (update, row[0].dtype, row[0].device)
    if key not in COMPILED:
        started = time.perf_counter()
        COMPILED[key] = Compiled(_compile(update, row, scalars), time.perf_counter() - started)
    return COMPILED[key].function


def _compile(update: Update, row: Row, scalars: torch.Tensor) -> Callable[..., Any] | None:
    def fused(scalars: torch.Tensor, *row: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return _apply(update, scalars, *row)

    options: dict[str, Any] = {
        "cpp.dynamic_threads": True,  # read when the kernel runs: code on disk serves any number of threads
        "realize_reads_threshold": 2,  # what both update and sums need is computed once, in one loop
    }
    function = torch.compile(fused, dynamic=True, options=options)
    # The compiler plans for the first size it sees, and would use no threads after a small one.
    example = [torch.zeros(1 << 20, dtype=tensor.dtype, device=tensor.device) for tensor in row]
    try:
        function(scalars, *example)
    except Exception as error:  # whatever a compiler raises, the step can be done without it
        print(f"The optimiser's update is not compiled and will be slower: {_said(error)}", file=sys.stderr)
        return None
    return function
