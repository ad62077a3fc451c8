"""Runs that a model's reduced base does not allow, found before any job starts."""

from __future__ import annotations

from pipeline_lib.config.suite import Suite
from pipeline_lib.config.table import run_index
from pipeline_lib.errors import UserError
from pipeline_lib.models.base_rules import base_fault


def check_bases(suite: Suite) -> None:
    """Raise a `UserError` with a line for each method, optimiser and model that cannot be."""
    lines: dict[str, None] = {}
    for run in run_index(suite).values():
        base = None if run is None else suite.models[run.model].base
        if run is None or base is None:
            continue
        fault = base_fault(base.kind, run.unlearn, run.optimizer_settings["kind"])
        if fault is not None:
            lines[f"  {run.model}, {run.method} with {run.optimizer}: {fault}"] = None
    if lines:
        raise UserError("runs that a model's `base` does not allow:\n" + "\n".join(lines))
