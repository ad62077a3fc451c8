"""The plan's memory against the resident memory of whole jobs on a CPU.

The plan counts texts apart and padded, as some models read them. Others share beginnings and pad nothing, so
their jobs may stay below it: by a quarter of the plan, and exceed it by 15 %.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import cache

import pytest

from tests.paths import REPO

LESS, MORE = 0.25, 0.15
CASES = ["fine-tuning, AdamW", "GradDiff, AdamW", "GradDiff, LoRA"]  # benchmarks/memory.py has more


@cache
def measurements(attempt: int) -> dict[str, dict[str, float]]:
    """All cases in one process, which imports torch once and forks for each job."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.memory", "--json", *CASES],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPO), "CUDA_VISIBLE_DEVICES": ""},
        cwd=REPO,
        capture_output=True,
        check=False,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="reads resident memory as Linux tells it")
@pytest.mark.parametrize("case", CASES)
def test_the_estimate_is_near_the_peak_of_the_job(case: str) -> None:
    """A system that takes memory back makes a peak smaller, never larger: the best of three counts."""
    measured = 0.0
    for attempt in range(3):
        found = measurements(attempt)[case]
        measured = max(measured, found["measured"])
        if 1 - LESS <= measured / found["bytes"] <= 1 + MORE:
            break
    assert measured > 300e6  # a job that did not run holds nothing
    assert 1 - LESS <= measured / found["bytes"] <= 1 + MORE
