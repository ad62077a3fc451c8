"""Checks, before any job starts, of what a suite reads: data, model folders, and whether they fit each other.

One message lists all faults. Files on the hub, and files that need a package which is not installed here, are
listed as not looked at. Never needs torch; downloads nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import PurePath
from typing import TYPE_CHECKING

from pipeline_lib.core.blocks import Block, Fault, OnThisMachine, blocks_in
from pipeline_lib.core.errors import UserError
from pipeline_lib.core.locate import expand
from pipeline_lib.operations.plan.attacks import look_at_stages
from pipeline_lib.operations.plan.context import base_faults, context_faults, layer_faults
from pipeline_lib.operations.plan.local_data import Look, look_at_evaluation, look_at_task
from pipeline_lib.operations.plan.local_models import look_at_lengths, look_at_model
from pipeline_lib.operations.plan.local_text import look_at_base
from pipeline_lib.study.contents_read import marked
from pipeline_lib.study.draws import parted
from pipeline_lib.study.graph import Graph
from pipeline_lib.study.jobs import Job

if TYPE_CHECKING:
    from pipeline_lib.operations.plan.table import Done
    from pipeline_lib.study.suite import Suite

SHOWN = 25  # faults that a message lists
LONGEST = 700  # characters of one fault
Pair = tuple[str, str]  # task, model


def check_inputs(suite: Suite, done: Done | None = None, pairs: Collection[Pair] | None = None) -> list[str]:
    """Lines that say what was not looked at; raises one `UserError` for everything that is wrong.

    `done` says which jobs need not run any more, and so read nothing; None means none of them. `pairs`: the
    tasks and models that were asked for; None means all of the study.
    """
    look = look_at_inputs(suite, done, pairs)
    if faults := list(dict.fromkeys(f"  {where}: {_shortened(message)}" for where, message in look.faults)):
        count = "a fault" if len(faults) == 1 else f"{len(faults)} faults"
        rest = [f"  and {len(faults) - SHOWN} more"] if len(faults) > SHOWN else []
        unseen = [f"  {line}" for line in _unseen(look)]
        raise UserError(
            f"what this suite reads has {count}, so no job is started:\n"
            + "\n".join([*faults[:SHOWN], *rest, *unseen])
        )
    return _unseen(look)


def look_at_inputs(suite: Suite, done: Done | None, pairs: Collection[Pair] | None) -> Look:
    """See `check_inputs`; the faults as a list."""
    look = Look([*context_faults(suite), *layer_faults(suite), *base_faults(suite)])
    study = Graph(suite).study()
    anchors = [
        job for job in study if job.rule == "finetune" or (job.rule == "base" and "base" not in job.inputs)
    ]
    bases = {job.name for job in study if job.rule == "pretrain" and not (done is not None and done(job))}
    used = dict.fromkeys((job.run.task, job.run.model) for job in anchors if job.run is not None)
    asked = [pair for pair in used if pairs is None or pair in pairs]
    missing = missing_files(suite, done, asked)
    look.faults += missing
    absent = {where for where, _ in missing}

    def unmade(name: str, place: int) -> bool:
        """Whether an anchor of this task (place 0) or from this source (place 1) must still be made."""
        some = [job for job in anchors if job.run and job.run[:2] in asked and job.run[place] == name]
        if place == 0:
            some = [job for job in some if job.rule == "finetune"]  # a base reads no data of a task
        return done is None or not all(map(done, some))

    for task in dict.fromkeys(task for task, _ in asked):
        if not any(where.startswith(f"tasks.{parted(task)[0]}.") for where in absent) and unmade(task, 0):
            look_at_task(look, suite, task)
        if task in suite.tasks and not any(where.startswith(f"evaluation of {task}.") for where in absent):
            look_at_evaluation(look, suite, task)
    if not absent:
        look_at_stages(look, suite)
    for model in dict.fromkeys(model for _, model in asked):
        if not any(where.startswith(f"models.{model}.") for where in absent) and unmade(model, 1):
            told = len(look.unseen) + len(look.faults)
            tasks = {task: look.tasks[task] for task, of in asked if of == model and task in look.tasks}
            tokenizer = look_at_base(look, suite, model, tasks) if model in bases else None
            tokenizer = tokenizer or look_at_model(look, suite, model)
            if len(look.unseen) + len(look.faults) == told:
                for task, of in asked:
                    if of == model and task in look.tasks:
                        look_at_lengths(look, suite, task, model, tokenizer)
    return look


def missing_files(
    suite: Suite, done: Done | None = None, pairs: Collection[Pair] | None = None
) -> list[Fault]:
    """(setting, message) of all paths of models, data and evaluations at which there is nothing.

    `done` says which jobs need not run any more, and so read nothing; None means none of them. `pairs`: the
    tasks and models to look at; None means all.
    """
    blocks: dict[str, Block] = {}
    for job in Graph(suite).study():
        if (
            job.row is None
            or job.needs not in ("training", "model")
            or (done is not None and done(job))
            or not _asked(job, pairs)
        ):
            continue
        task, model = job.row[:2]
        label, _ = parted(task)
        if job.rule == "pretrain":
            blocks[f"models.{model}"] = suite.models[model]
        elif job.rule in ("base", "finetune"):
            if "base" not in job.inputs:
                blocks[f"models.{model}"] = suite.models[model]
            if job.rule == "finetune":
                blocks[f"tasks.{label}"] = suite.settings_of(task)
        else:
            blocks[f"evaluation of {label}"] = suite.evaluation_of(task)
            blocks |= {f"stages.{name}": block for name, block in suite.stages.items()}
    return list(dict.fromkeys(fault for name, block in blocks.items() for fault in _faults(name, block)))


def _asked(job: Job, pairs: Collection[Pair] | None) -> bool:
    """Whether one of these tasks and models needs the job; a base is needed by every task of its model."""
    if pairs is None or job.row is None:
        return pairs is None
    return job.run[:2] in pairs if job.run else job.row.model in {model for _, model in pairs}


def _faults(where: str, block: Block) -> Iterator[Fault]:
    for name, value in marked(block, OnThisMachine).items():
        here = f"{where}.{name}"
        try:
            path = expand(value)
        except UserError as error:
            yield here, str(error)
        else:
            if not path.exists():
                yield (
                    here,
                    f"expected a file or folder at {path.absolute()}, found nothing; correct the path",
                )
    for name, inner in blocks_in(block):
        yield from _faults(f"{where}.{name}", inner)


def pairs_of_targets(suite: Suite, targets: Collection[str]) -> set[Pair] | None:
    """The tasks and models that targets of the workflow name in their paths; None where one may mean all."""
    found: set[Pair] = set()
    for target in targets:
        parts = PurePath(target).parts
        tasks = [part for part in parts if part in suite.tasks]
        models = [part for part in parts if part in suite.models]
        if parts[:2] != ("results", suite.suite) or len(tasks) != 1:
            return None
        found |= {
            (t, model) for t in (tasks[0], suite.tuned_on(tasks[0])) for model in models or suite.models
        }
    return found or None


def _unseen(look: Look) -> list[str]:
    found = list(dict.fromkeys(look.unseen))
    return [f"Not looked at before the run: {'; '.join(found)}."] if found else []


def _shortened(message: str) -> str:
    return message if len(message) <= LONGEST else message[: LONGEST - 3] + "..."
