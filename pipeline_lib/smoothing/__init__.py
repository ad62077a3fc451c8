"""What makes a forgotten text hard to relearn. A new smoothing is one module here; it is found."""

from __future__ import annotations

from pipeline_lib.core.families import Family
from pipeline_lib.smoothing.base import Smoothing

SMOOTHINGS = Family(__name__, Smoothing)

__all__ = ["SMOOTHINGS", "Smoothing"]
