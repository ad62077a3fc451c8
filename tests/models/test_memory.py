"""A batch that does not fit is halved; other errors pass; the peak is that of this process."""

from __future__ import annotations

import multiprocessing

import pytest
import torch

from pipeline_lib.core.errors import UserError
from pipeline_lib.models.memory import halve_on_out_of_memory, peak_memory_mb


def test_halves_until_it_fits_and_keeps_the_order():
    sizes = []

    def run(items):
        sizes.append(len(items))
        if len(items) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return [10 * item for item in items]

    assert halve_on_out_of_memory([1, 2, 3, 4, 5], run) == [10, 20, 30, 40, 50]
    assert sizes == [5, 2, 3, 1, 2]


def test_one_example_too_large_and_other_errors():
    def fail(message):
        def run(items):
            raise RuntimeError(message)

        return run

    with pytest.raises(UserError, match="single example does not fit in memory"):
        halve_on_out_of_memory([1, 2, 3], fail("DefaultCPUAllocator: can't allocate memory"))
    with pytest.raises(RuntimeError, match="shape"):
        halve_on_out_of_memory([1, 2, 3], fail("shape mismatch"))


def test_peak_memory_is_at_least_what_is_held():
    held = torch.ones(30 * 2**18)  # 30 MiB
    assert peak_memory_mb(torch.device("cpu")) > held.nbytes / 2**20


def test_peak_memory_is_not_that_of_the_process_that_started_this_one():
    held = torch.ones(2**28)  # 1 GiB
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        of_child = pool.apply(peak_memory_mb, (torch.device("cpu"),))
    assert 0 < of_child < held.nbytes / 2**20
