"""Memory: the peak of this process, for logs and cost tables, and batches that turn out too large."""

from __future__ import annotations

import re
import resource
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import torch

from pipeline_lib.core.errors import UserError
from pipeline_lib.core.system_errors import out_of_memory

Item = TypeVar("Item")


def peak_memory_mb(device: torch.device) -> float:
    """Peak in MiB: what was allocated on the accelerator, or on a CPU the process's resident set."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    status = Path("/proc/self/status")
    # getrusage would count what the parent process held before this program began
    if status.is_file() and (peak := re.search(r"^VmHWM:\s*(\d+)", status.read_text(), re.MULTILINE)):
        return int(peak[1]) / 2**10  # from KiB
    scale = 1 if sys.platform == "darwin" else 1024  # bytes there, KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale / 2**20


def does_not_fit(error: RuntimeError) -> bool:
    """Whether memory ran out, also that of cuBLAS. `torch.OutOfMemoryError` is a RuntimeError."""
    return out_of_memory(error) or "alloc_failed" in str(error).lower()


def no_example_fits(error: RuntimeError) -> UserError:
    return UserError(
        "a single example does not fit in memory. Use a smaller model, a lower `max_length` or "
        f"`max_new_tokens`, or a machine with more memory ({str(error)[:200]})"
    )


def halve_on_out_of_memory(items: Sequence[Item], run: Callable[[Sequence[Item]], list]) -> list:
    """`run(items)`, in two halves (and so on) if that does not fit in memory; results in order."""
    try:
        return run(items)
    except RuntimeError as error:
        if not does_not_fit(error):
            raise
        if len(items) == 1:
            raise no_example_fits(error) from None
    # Outside the except block, so that the failed attempt's tensors are no longer held by its traceback.
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    middle = len(items) // 2
    return [
        *halve_on_out_of_memory(items[:middle], run),
        *halve_on_out_of_memory(items[middle:], run),
    ]
