"""Runs that a model's reduced base does not allow, found before any job starts."""

from __future__ import annotations

from collections.abc import Iterator

from pipeline_lib.blocks import Fault
from pipeline_lib.config.suite import Suite
from pipeline_lib.config.table import run_index
from pipeline_lib.models.base_rules import base_fault


def base_faults(suite: Suite) -> Iterator[Fault]:
    """(path of the setting, message) of each method and optimiser that a model cannot have."""
    for run in run_index(suite).values():
        base = None if run is None else suite.models[run.model].base
        if run is None or base is None:
            continue
        fault = base_fault(base.kind, run.unlearn, run.optimizer_settings["kind"])
        if fault is not None:
            yield f"models.{run.model}.base", f"{run.method} with {run.optimizer}: {fault}"
