"""A real dry run in this process: the DAG of a suite, every job of it with its parameters."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import re
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any, NamedTuple

from snakemake.api import SnakemakeApi
from snakemake.exceptions import WorkflowError
from snakemake.settings.types import (
    ConfigSettings,
    DAGSettings,
    DeploymentSettings,
    ExecutionSettings,
    OutputSettings,
    Quietness,
    ResourceSettings,
    SchedulingSettings,
    StorageSettings,
    WorkflowSettings,
)

from tests.paths import REPO

# With the @ of a task of tuning, which needs no quoting either (shlex.quote).
SAFE_PATH = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@-]*(/[A-Za-z0-9][A-Za-z0-9_.@-]*)*")


class Planned(NamedTuple):
    """One job as Snakemake would run it, its files below the results folder."""

    rule: str
    inputs: frozenset[str]
    outputs: frozenset[str]
    log: str
    benchmark: str


@dataclass
class DryRun:
    """What came of it. `refused`: the workflow's one message, or None where the DAG was built.

    `given`: log of a job -> the parameters that its script is handed, and the resources that it asks for.
    """

    refused: str | None
    jobs: int = 0
    planned: tuple[Planned, ...] = ()
    given: dict[str, tuple[dict[str, Any], dict[str, Any]]] = field(default_factory=dict)


def dry_run(suite: Any, folder: Path, *targets: str) -> DryRun:
    """Build and "execute" the DAG of a suite in the empty `folder`, as `snakemake --dry-run` does.

    `targets`: what is asked for; nothing for the whole study.

    Asserts of every job that it runs a script, that its files lie below results/ under names that need no
    quoting, and that its parameters are plain values without NaN and infinity. Any exception but
    `WorkflowError` is a defect and is let through.
    """
    with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
        try:
            jobs = _jobs(suite, folder, targets)
        except WorkflowError as error:
            return DryRun(str(error))
        finally:
            logging.getLogger("snakemake").handlers.clear()
    for job in jobs:
        _check(job)
    scripts = [job for job in jobs if job.rule.script]
    given = {_below(job.log[0]): (job.params["job"], dict(job.resources.items())) for job in scripts}
    return DryRun(None, len(jobs), tuple(map(_planned, scripts)), given)


def _planned(job: Any) -> Planned:
    inputs, outputs = ({_below(file) for file in files} for files in (job.input, job.output))
    (log,) = job.log
    return Planned(job.rule.name, frozenset(inputs), frozenset(outputs), _below(log), _below(job.benchmark))


def _below(file: Any) -> str:
    return str(PurePath(str(file)).relative_to(*PurePath(str(file)).parts[:2]))


def _jobs(suite: Any, folder: Path, targets: Collection[str]) -> list[Any]:
    quiet = OutputSettings(quiet={Quietness.ALL}, show_failed_logs=False)
    with SnakemakeApi(quiet) as api:
        workflow = api.workflow(
            resource_settings=ResourceSettings(cores=1),
            config_settings=ConfigSettings(config=suite),
            storage_settings=StorageSettings(),
            workflow_settings=WorkflowSettings(),
            deployment_settings=DeploymentSettings(),
            snakefile=REPO / "workflow" / "Snakefile",
            workdir=folder,
        )
        workflow.dag(dag_settings=DAGSettings(targets=set(targets))).execute_workflow(
            executor="dryrun",
            execution_settings=ExecutionSettings(lock=False),
            scheduling_settings=SchedulingSettings(scheduler="greedy"),
        )
        jobs = list(workflow._workflow.dag.jobs)
        for job in jobs:
            job.params, job.resources  # noqa: B018  (computed from the suite when they are asked for)
        return jobs


def _check(job: Any) -> None:
    if job.rule.name == "all" or (job.rule.name.startswith("paper_") and not job.output):
        return
    assert job.rule.shellcmd is None and not job.rule.is_run and job.rule.script, f"{job}: not a script"
    for file in (*job.output, *job.log, *([job.benchmark] if job.benchmark else [])):
        assert str(file).startswith("results/") and ".." not in Path(str(file)).parts, file
        assert SAFE_PATH.fullmatch(str(file)), f"{job}: a path that a shell would read otherwise: {file!r}"
    json.dumps(dict(job.params.items()), allow_nan=False)
