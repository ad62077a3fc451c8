"""Fixtures of other tests, for the same models on the simulated device; and where there can be none.

A process has one kind of accelerator, so that a real one leaves no room for this; and torch can be told of
one in Python from 2.9 on.
"""

from __future__ import annotations

import torch
from torch.utils import backend_registration

from tests.benchmarks.conftest import data_folder
from tests.engine.conftest import records, tiny
from tests.steps.conftest import data

__all__ = ["data", "data_folder", "records", "tiny"]

if torch.cuda.is_available() or not hasattr(backend_registration, "_setup_privateuseone_for_python_backend"):
    collect_ignore_glob = ["test_*.py"]
