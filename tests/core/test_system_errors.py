"""What the machine does to a job is told in words; what the program does wrong is not hidden."""

from __future__ import annotations

import errno

import pytest
import torch

from pipeline_lib.core.system_errors import explained


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB."), "memory ran out (CUDA out"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried ..."), "memory ran out"),
        (MemoryError(), "memory ran out (MemoryError)"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "memory ran out"),
        (RuntimeError("can't start new thread"), "memory ran out"),
        (OSError(errno.ENOSPC, "No space left on device"), "the disk is full"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "your quota of disk space is used up"),
        (OSError(errno.EACCES, "Permission denied", "/a/b"), "may not read or write it ([Errno 13]"),
    ],
)
def test_the_machines_faults_have_messages(error, words):
    assert words in explained(error)


@pytest.mark.parametrize(
    "error", [ValueError("out of memory"), RuntimeError("shape"), FileNotFoundError("a")]
)
def test_other_errors_keep_their_traceback(error):
    assert explained(error) is None
