"""Lengths of time for people."""

from __future__ import annotations


def duration(seconds: float) -> str:
    """0.4 s, 12 s, 3 min, 2.5 h, 3.1 days."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 172800 else f"{seconds / 86400:.1f} days"
