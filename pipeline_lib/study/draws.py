"""Other forget groups of the same data: `tune.forget_draw` tunes on groups that no report shows.

A task whose source has a setting `forget_draw` can forget another block of its groups. Tuning then has data
of its own, with models before unlearning of its own, under a name that no label of a user can be.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from pipeline_lib.core.blocks import Fault, tag
from pipeline_lib.study.runs import changed

if TYPE_CHECKING:
    from pipeline_lib.tasks.base import TaskSettings

SETTING = "forget_draw"
MARK = "@draw"  # a label has no @


def drawn_name(task: str, draw: int) -> str:
    """The name of the task with the forget groups of another draw."""
    return f"{task}{MARK}{draw}"


def parted(name: str) -> tuple[str, int | None]:
    """Label and draw of a task's name; None for a task of the suite as it is."""
    label, _, draw = name.partition(MARK)
    return label, int(draw) if draw else None


def drawn(settings: TaskSettings, draw: int) -> TaskSettings:
    """The task with the forget groups of another draw, which `draw_faults` has found to exist."""
    return settings.model_copy(update={SETTING: draw})


def draw_faults(draw: int | None, tasks: Mapping[str, TaskSettings]) -> Iterator[Fault]:
    """Why these tasks cannot be tuned on the groups of this draw."""
    where = f"tune.{SETTING}"
    if draw is None:
        return
    if lacking := [f"{task} ({tag(type(of))})" for task, of in tasks.items() if not _has_draws(of)]:
        yield (
            where,
            f"found {draw}, but the source of {', '.join(lacking)} draws no other forget groups; leave it "
            "out, and every task is tuned on the groups that are reported, or give these tasks a suite of "
            "their own",
        )
    for task, settings in tasks.items():
        if not _has_draws(settings):
            continue
        if getattr(settings, SETTING) == draw:
            yield where, f"found {draw}, which the task {task!r} reports; choose another"
        faults: list[Fault] = []
        changed(settings, {SETTING: draw}, "", faults, f"of the task {task!r}: ")
        yield from ((where, message) for _, message in faults)


def _has_draws(settings: TaskSettings) -> bool:
    return SETTING in type(settings).model_fields
