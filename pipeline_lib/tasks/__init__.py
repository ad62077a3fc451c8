"""The tasks: what is forgotten, what is kept, and how both are judged. A new one is one folder.

Every folder of this package, and every folder in a place that $PIPELINE_TASKS names (a list, as in $PATH),
is a task if its `__init__.py` has a class `Settings` (see base.py). Its name is the task's `source`.
"""

from __future__ import annotations

import pkgutil
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from pipeline_lib.core.blocks import suggestion, tag
from pipeline_lib.core.blocks.messages import describe, show
from pipeline_lib.core.errors import UserError
from pipeline_lib.core.provenance import task_places
from pipeline_lib.tasks.base import TaskSettings

__path__ += map(str, task_places())


@cache
def sources() -> dict[str, type[TaskSettings]]:
    """The settings class of every task, by its `source`."""
    found: dict[str, type[TaskSettings]] = {}
    for place in __path__:
        if not Path(place).is_dir():
            raise UserError(f"$PIPELINE_TASKS: expected a folder of tasks at {place!r}, found nothing there")
        for module in sorted(pkgutil.iter_modules([place]), key=lambda module: module.name):
            if module.ispkg:
                if module.name in found:
                    raise UserError(f"{place}/{module.name}: there is a task of this name; rename it")
                found[module.name] = _settings_of(module.name)
    return found


def task_settings(raw: dict[str, Any]) -> TaskSettings:
    """The checked settings of one task from plain values; raises `UserError` with every fault."""
    source = raw.get("source")
    if source not in sources():
        raise UserError(f"source: found {show(source)}; {suggestion(source, sources())}")
    block = sources()[source]
    try:
        return block.model_validate(raw)
    except ValidationError as error:
        lines = [f"{path}: {message}" for path, message in describe(error, block, settled=("source",))]
        raise UserError(f"source {source}: " + "; ".join(lines)) from None


def _settings_of(name: str) -> type[TaskSettings]:
    settings = getattr(import_module(f"{__name__}.{name}"), "Settings", None)
    if not (isinstance(settings, type) and issubclass(settings, TaskSettings)):
        raise UserError(
            f"task {name!r}: its __init__.py must have a class `Settings` made from "
            "pipeline_lib.tasks.base.TaskSettings"
        )
    if tag(settings) != name:
        raise UserError(f"task {name!r}: `source` of its Settings must be Literal[{name!r}]")
    return settings
