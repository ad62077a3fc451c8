"""Freed memory stays with the process, where its C library can be told so."""

from __future__ import annotations

import subprocess
import sys

import pytest

from pipeline_lib.models import memory
from tests.paths import REPO

# Pages that the system clears for a tensor of 64 MiB after others that were freed: given back, then kept. How
# often it clears kept ones anew depends on where glibc puts small things between: 1 to 8 of 30 times.
PROGRAM = """
import resource
import torch
from pipeline_lib.models.memory import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(1 << 24)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

faults()
given_back = faults()
kept = keep_freed_memory()
print(kept, given_back, sum(faults() > given_back / 10 for _ in range(30)))
"""


def test_a_freed_tensors_memory_is_seldom_taken_from_the_system_again():
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=REPO, capture_output=True, text=True, check=True
    )
    kept, before, cleared = done.stdout.split()
    if kept == "False":
        pytest.skip("this C library has no mallopt")
    # by itself the system clears each page anew: 16384 of 4 KiB, or 32 of 2 MiB
    assert int(before) >= 16 and int(cleared) <= 15


def test_another_c_library_is_left_alone(monkeypatch):
    monkeypatch.setattr(memory.ctypes, "CDLL", lambda name: object())
    assert memory.keep_freed_memory() is False
