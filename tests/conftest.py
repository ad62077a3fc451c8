"""What every test shares: one thread, no network, fixed seeds.

The variables are set here, before a test module imports torch or the hub client, because both read them
once at import. `tests/hub_server.py` takes the hub ones out again for the tests that need a hub.
"""

from __future__ import annotations

import os
import random
import sys

import numpy as np
import pytest
from hypothesis import settings

for _name, _value in {
    "OMP_NUM_THREADS": "1",  # pytest runs one worker a core; more threads only make them wait for each other
    "MKL_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "MPLBACKEND": "Agg",
}.items():
    os.environ.setdefault(_name, _value)

# The same examples on every run, and no failure because the machine was busy.
settings.register_profile("repository", derandomize=True, deadline=None, database=None)
settings.load_profile("repository")


@pytest.fixture(autouse=True)
def _seeded() -> None:
    """Start every test from the same random state; torch only where the test's module has imported it."""
    random.seed(0)
    np.random.seed(0)
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)
