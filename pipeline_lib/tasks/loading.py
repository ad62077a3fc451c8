"""The records of a task, checked against what its settings say about them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from pipeline_lib.core.errors import UserError
from pipeline_lib.data.splits import QUESTIONS_HEADLINE, Task
from pipeline_lib.tasks.base import TaskSettings


def load_task(settings: TaskSettings) -> Task:
    """Load the records; raises `UserError` where the task contradicts itself.

    The settings say whether there is a `retrained` before anything is loaded, and the task says it
    afterwards. Where the settings say no, an empty list of splits for it to learn means the same.
    """
    task = settings.load()
    if not settings.has_retrained() and not task.finetune.get("retrained"):
        task = replace(task, finetune={k: v for k, v in task.finetune.items() if k != "retrained"})
    if faults := list(_faults(task, settings.has_retrained(), settings.is_taught())):
        raise UserError("the task contradicts itself: " + "; ".join(faults))
    return task


def _faults(task: Task, has_retrained: bool, is_taught: bool) -> Iterator[str]:
    if "target" not in task.finetune:
        yield "`finetune` names no splits for `target`; give a list, empty for the model as it is"
    if has_retrained and "retrained" not in task.finetune:
        yield (
            "`has_retrained()` says that there is a `retrained`, and `finetune` names no splits for it; name "
            "them, or let `has_retrained` return False"
        )
    if not has_retrained and "retrained" in task.finetune:
        yield (
            "`has_retrained()` says that there is no `retrained`, and `finetune` teaches it "
            f"{', '.join(task.finetune['retrained'])}; leave that out, or let `has_retrained` return True"
        )
    if is_taught and task.finetune.get("target") == []:
        yield (
            "`finetune` teaches `target` nothing, and `is_taught()` says that it learns the data; let that "
            "return False, or name the splits"
        )
    if not is_taught and any(task.finetune.values()):
        yield (
            "`is_taught()` says that the model as it is knows the data, and `finetune` names splits to "
            "learn; leave them out, or let `is_taught` return True"
        )
    named = {
        **{f"finetune.{model}": names for model, names in task.finetune.items()},
        "evaluate": task.evaluate,
        "utility": task.utility,
        "multiple_choice": task.multiple_choice,
        "preference": list(task.preference),
        "holdout": [] if task.holdout is None else [task.holdout],
    }
    for where, names in named.items():
        if unknown := [name for name in names if name not in task.splits]:
            yield f"`{where}` names {', '.join(unknown)}, and the splits are {', '.join(task.splits)}"
    if missing := [name for name in ("forget", "retain") if name not in task.splits]:
        yield f"`splits` lacks {' and '.join(missing)}"
    if task.headline is None and not task.utility:
        yield "neither `headline` nor `utility` says what judges it; give one of them"
    sides = QUESTIONS_HEADLINE if task.headline is None else task.headline
    if set(sides) != set(QUESTIONS_HEADLINE):
        expected = " and ".join(QUESTIONS_HEADLINE)
        yield f"`headline` has the sides {', '.join(sides) or 'none'}; expected {expected}"
