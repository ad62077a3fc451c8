"""Where tests find the real data that the project develops with, if it is there at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[1]
GIVEN = os.environ.get("PIPELINE_DATA")  # at the start: some tests take it away


def shared_data(name: str) -> Path:
    """Path of `name` under `$PIPELINE_DATA` or `../shared/data`; skips the test where it is absent."""
    for root in (*([Path(GIVEN)] if GIVEN else []), REPO.parent / "shared" / "data"):
        if (root / name).exists():
            return root / name
    pytest.skip(f"needs real data: {name} under $PIPELINE_DATA or ../shared/data")
