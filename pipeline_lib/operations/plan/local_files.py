"""Whether the files and folders that a suite names are there, looked up before any job starts."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING

from pipeline_lib.core.blocks import Block, Fault, OnThisMachine
from pipeline_lib.core.errors import UserError
from pipeline_lib.core.locate import expand
from pipeline_lib.operations.plan.jobs import planned_jobs
from pipeline_lib.study.contents_read import marked

if TYPE_CHECKING:
    from pipeline_lib.operations.plan.table import Done
    from pipeline_lib.study.suite import Suite


def missing_files(
    suite: Suite, done: Done | None = None, pairs: Collection[tuple[str, str]] | None = None
) -> list[Fault]:
    """(setting, message) of all paths of models, data and evaluations at which there is nothing.

    `done` says which jobs need not run any more, and so read nothing; None means none of them. `pairs`: the
    tasks and models that are looked at; None means all.
    """
    blocks: dict[str, Block] = {}
    for job, _ in planned_jobs(suite):
        assert job.run is not None
        task, model = job.run.task, job.run.model
        if (pairs is not None and (task, model) not in pairs) or (done is not None and done(job)):
            continue
        if job.rule == "finetune":
            blocks[f"models.{model}"] = suite.models[model]
            blocks[f"tasks.{task}"] = suite.tasks[task]
        else:
            blocks[f"evaluation of {task}"] = suite.evaluation_of(task)
    return list(dict.fromkeys(fault for name, block in blocks.items() for fault in _faults(name, block)))


def _faults(where: str, block: Block) -> Iterator[Fault]:
    paths = marked(block, OnThisMachine)
    for name, value in block:
        here = f"{where}.{name}"
        if isinstance(value, Block):
            yield from _faults(here, value)
        elif name in paths:
            try:
                path = expand(value)
            except UserError as error:
                yield here, str(error)
                continue
            if not path.exists():
                yield here, f"expected a file or folder at {path.absolute()}, found nothing; correct the path"
