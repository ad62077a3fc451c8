"""Runs of a suite that `resources.sharding` cannot serve, and why."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pipeline_lib.blocks import Fault
from pipeline_lib.config.jobs import Resources
from pipeline_lib.config.runs import Run
from pipeline_lib.distributed.refusal import refusal


def sharding_faults(resources: Resources, runs: Sequence[Run]) -> Iterator[Fault]:
    """One fault for each setting of a run that cannot be trained in parts; none without sharding."""
    if resources.sharding == "none":
        return
    for run in runs:
        estimator = run.optimizer_settings.get("estimator")
        message = refusal(run.objective["kind"], run.optimizer_settings["kind"], estimator)
        if message is not None:
            yield "resources.sharding", message
        if run.unlearn.get("offload"):
            reason = (
                "excludes `offload`: parts of the states lie on every GPU already; leave one of the two out"
            )
            yield "resources.sharding", reason
