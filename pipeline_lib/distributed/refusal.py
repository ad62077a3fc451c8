"""What cannot be trained when each process holds a part of each parameter, and why."""

from __future__ import annotations

from pipeline_lib.core.families import Method


def refusal(*methods: Method) -> str | None:
    """Why a run of these methods cannot be sharded, as a message to the user; None if it can be."""
    reasons = (
        f"{method.kind} cannot be trained with resources.sharding full: {method.in_parts}; use sharding none"
        for chosen in methods
        for method in chosen.involved()
        if method.in_parts is not None
    )
    return next(reasons, None)
