"""The same work on the CPU and on the simulated device, and how its results are compared."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from tests.device.accelerator import NAME, accelerator
from tests.tiny import flat

CPU = torch.device("cpu")


def on_both(work: Callable[[torch.device, Path], Any], folder: Path) -> tuple[Any, Any]:
    """What `work(device, folder)` gives on the CPU and on the device, each with a folder of its own."""
    on_cpu = work(CPU, folder / "cpu")
    with accelerator() as device:
        return on_cpu, work(device, folder / "device")


def assert_close(one: Any, other: Any, tolerance: float = 1e-6) -> None:
    """Equal in structure, text and whole numbers; other numbers to `tolerance`, relative or absolute."""
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            assert_close(one[key], other[key], tolerance)
    elif isinstance(one, list | tuple):
        assert len(one) == len(other)
        for pair in zip(one, other, strict=True):
            assert_close(*pair, tolerance)
    elif isinstance(one, torch.Tensor):
        torch.testing.assert_close(other, one, rtol=tolerance, atol=tolerance)
    elif isinstance(one, float):
        same = math.isclose(one, other, rel_tol=tolerance, abs_tol=tolerance)
        assert same or (math.isnan(one) and math.isnan(other)), (one, other)
    else:
        assert one == other


def weights_of(model: torch.nn.Module, device: torch.device) -> torch.Tensor:
    """All parameters as one vector on the CPU; they and the buffers must lie on `device`."""
    places = {tensor.device.type for tensor in (*model.parameters(), *model.buffers())}
    assert places == {device.type}
    assert device.type in ("cpu", NAME)
    return flat([parameter.cpu() for parameter in model.parameters()])
