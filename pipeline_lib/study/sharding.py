"""Runs of a suite that `resources.sharding` cannot serve, and why."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pipeline_lib.core.blocks import Fault
from pipeline_lib.distributed.refusal import refusal
from pipeline_lib.study.resources import Resources
from pipeline_lib.study.runs import Run


def sharding_faults(resources: Resources, runs: Sequence[Run]) -> Iterator[Fault]:
    """One fault for each setting of a run that cannot be trained in parts; none without sharding."""
    if resources.sharding == "none":
        return
    for run in runs:
        message = refusal(*run.methods)
        if message is not None:
            yield "resources.sharding", message
        if run.unlearn.offload:
            reason = (
                "excludes `offload`: parts of the states lie on every GPU already; leave one of the two out"
            )
            yield "resources.sharding", reason
