"""Runs that a model's reduced base does not allow, found before any job starts."""

from __future__ import annotations

from collections.abc import Iterator

from pipeline_lib.core.blocks import Fault
from pipeline_lib.models.base_rules import base_fault
from pipeline_lib.optimizers import OPTIMIZERS
from pipeline_lib.study.suite import Suite


def base_faults(suite: Suite) -> Iterator[Fault]:
    """(path of the setting, message) of each method and optimiser that a model cannot have."""
    for run in suite.run_table():
        base = suite.models[run.model].base
        if base is None or run.order == "none":
            continue
        kind = run.optimizer_settings["kind"]
        fault = base_fault(
            base.kind,
            run.unlearn["lora"] is not None,
            run.unlearn["weights"],
            kind,
            OPTIMIZERS.kinds()[kind].moves_zeros,
        )
        if fault is not None:
            yield f"models.{run.model}.base", f"{run.method} with {run.optimizer}: {fault}"
