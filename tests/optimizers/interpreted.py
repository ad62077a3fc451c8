"""The Triton kernels on a CPU, by Triton's interpreter; run by `test_multi_tensor` in a process of its own.

The interpreter cuts bf16 off where a GPU rounds it to nearest, so there the last digit is left out.
"""

from __future__ import annotations

import json
import math
from functools import partial
from unittest.mock import patch

import torch

from pipeline_lib.optimizers import OPTIMIZERS, elementwise, multi_tensor
from tests.optimizers.kinds import OURS
from tests.optimizers.test_elementwise import Shapes, trained

SIZES = (1, 3, 701, multi_tensor.BLOCK, 2 * multi_tensor.BLOCK + 1, 5000)
CPU = torch.device("cpu")


def difference(one: torch.Tensor, other: torch.Tensor) -> float:
    """The largest, over 1 or the value where that is more."""
    one, other = one.double(), other.double()
    return ((one - other).abs() / other.abs().clamp(min=1)).max().item()


def one_step(kind: str, dtype: torch.dtype) -> dict[str, float]:
    """By how much kernel and torch differ in what they write and in the sums; what must stay has stayed."""
    update, twin = OPTIMIZERS.kinds()[kind].update, OPTIMIZERS.kinds()[kind].twin
    generator = torch.Generator().manual_seed(5)
    rows = []
    for size in SIZES:
        row = [torch.randn(size, generator=generator).to(dtype) for _ in range(2 + twin.states)]
        row[1][::3] = 0
        rows.append(tuple(row))
    before = [tuple(tensor.clone() for tensor in row) for row in rows]
    expected = [tuple(tensor.clone() for tensor in row) for row in rows]
    scalars = torch.tensor(twin.probe)
    stepper = multi_tensor.Stepper(twin, dtype, CPU, partial(elementwise._apply, update))
    rest, sums = stepper(rows, scalars, {})
    assert not rest and sums is not None
    parts = [elementwise._apply(update, scalars, *row) for row in expected]
    wanted = [torch.stack(part).double().sum().item() for part in zip(*parts, strict=True)]
    found = sums.double().sum(1).tolist()
    for row, old in zip(rows, before, strict=True):
        kept = [1, *range(2 + twin.changed, len(row))]
        assert all(torch.equal(row[i], old[i]) for i in kept)
        assert not any(
            torch.equal(row[i], old[i]) for i in range(len(row)) if i not in kept and len(old[i]) > 3
        )
    values = zip(rows, expected, strict=True)
    return {
        "values": max(difference(a, b) for row, other in values for a, b in zip(row, other, strict=True)),
        "squares": abs(found[0] / wanted[0] - 1),
        "counts": sum(abs(a - b) for a, b in zip(found[1:], wanted[1:], strict=True)),
        "clipped": wanted[1] if len(wanted) > 1 else math.nan,
    }


def run(kind: str) -> dict[str, float]:
    """The same over three steps of the optimiser in fp32, with its statistics."""
    eager, statistics = trained(kind, Shapes(31))
    with (
        patch.object(multi_tensor, "serves", lambda *_: True),
        patch.object(elementwise, "COMPILE_FROM", 1),
        patch.object(elementwise, "compiled", None),  # would fail if called: no row is left
    ):
        values, its_statistics = trained(kind, Shapes(31))
    assert its_statistics.keys() == statistics.keys()
    return {"values": difference(values, eager)} | {
        name: abs(its_statistics[name] / value - 1) for name, value in statistics.items()
    }


if __name__ == "__main__":
    found = {}
    for dtype in multi_tensor.TOLERANCES:
        with patch.object(multi_tensor, "ALIKE", 0 if dtype == torch.bfloat16 else multi_tensor.ALIKE):
            for kind in OURS:
                found[f"{kind} {str(dtype).removeprefix('torch.')}"] = one_step(kind, dtype)
    for kind in OURS:
        found[f"{kind} run"] = run(kind)
    print(json.dumps(found))
