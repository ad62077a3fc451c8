"""The plan as text: the needs of each group of jobs, the total of the study, and what will not fit."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline_lib.core.errors import UserError
from pipeline_lib.core.runs import RowKey
from pipeline_lib.operations.plan.advice import advice
from pipeline_lib.operations.plan.device import UTILISATION, Device, device_of
from pipeline_lib.operations.plan.jobs import Work, memory_of, planned_jobs, seconds_of
from pipeline_lib.operations.plan.paths import short_paths
from pipeline_lib.operations.plan.power import power
from pipeline_lib.operations.plan.shape import shape_of
from pipeline_lib.operations.plan.training_memory import Memory
from pipeline_lib.stages.base import name_of
from pipeline_lib.study.jobs import RULES, Job
from pipeline_lib.study.suite import Suite

Done = Callable[[Job], bool]  # whether its results are there
HEADER = ("job", "task", "model", "methods", "jobs", "memory", "minutes each", "total")
NAMES_WIDTH = 40
ERROR = 1.15  # an estimate may be too large by this factor: only a job beyond it is refused
TIGHT = 0.9  # share of the memory: the error of an estimate may exceed the rest


@dataclass(frozen=True)
class Group:
    """Jobs of a kind on one task and model with about the same needs; None: the model's sizes are unknown."""

    kind: str
    task: str
    model: str
    methods: tuple[str, ...]
    jobs: int
    left: int
    memory: Memory | None  # of the job that needs most
    seconds: float | None  # the mean
    seconds_left: float  # of the jobs that are not done
    advice: str | None


def finished(out: Path | str) -> Done:
    """A test whether a job's result lies in the results folder; `plan_text` then leaves the job out.

    A job with a result may still run again, where code or settings have changed.
    """

    return lambda job: (Path(out) / job.result).is_file()


def plan_text(suite: Suite, done: Done | None = None) -> str:
    """The table of the study's jobs, its totals and what to change, from the suite and local files alone.

    `done` says which jobs need not run any more; None counts all. Estimates: see docs/planning.md.
    """
    device = device_of(suite.resources)
    groups = groups_of(suite, done)
    lines = [
        f"Plan of {suite.suite!r}: estimates before the start, on {_device_line(suite, device)}",
        "",
        *aligned([HEADER, *(_row(group, device) for group in groups)], words=4),
        "",
        *_totals(groups, suite),
    ]
    notes = list(_notes(suite, groups, device))
    return "\n".join([*lines, *([""] if notes else []), *notes])


def check_fits(suite: Suite, done: Done | None = None) -> None:
    """Raise a `UserError` that names every kind of job that cannot fit, with what would make it fit.

    The limit is what no job can exceed (`resources.gpu_memory_gb`, on a CPU `resources.memory_limit_mb`),
    with room for the error of an estimate. The table marks jobs that need only more than they ask for.
    `done`: jobs that need not run any more.
    """
    device = device_of(suite.resources)
    limit = device.limit
    if limit is None:
        return
    lines: dict[str, None] = {}
    for group in groups_of(suite, done):
        if group.left and group.memory is not None and group.memory.total > ERROR * limit:
            lines[
                f"  {group.kind} of {group.model} ({_shortened(group.methods)}) needs about "
                f"{_size(group.memory.total)}: {_parts(group.memory)}. What would make it fit: "
                f"{group.advice}."
            ] = None
    if lines:
        setting = "resources.gpu_memory_gb" if device.kind == "cuda" else "resources.memory_limit_mb"
        raise UserError(
            f"more memory than there is ({setting}: {_size(limit)}), so no job is started:\n"
            + "\n".join(lines)
            + f"\nIf the device has more, correct {setting}; without it nothing is refused."
        )


def _parts(memory: Memory) -> str:
    """The parts of a job's largest phase, largest first."""
    return ", ".join(
        f"{name} {_size(size)}"
        for name, size in sorted(memory.parts.items(), key=lambda part: -part[1])
        if size >= 0.01 * memory.total
    )


def groups_of(suite: Suite, done: Done | None = None) -> list[Group]:
    """Jobs grouped by similar needs (memory within a twentieth, time within a quarter).

    Within a kind, the groups that need most come first.
    """
    needs: dict[str, tuple[Memory | None, float, str | None]] = {}
    found: dict[tuple[object, ...], list[tuple[Job, RowKey, str]]] = {}
    for job, work in planned_jobs(suite):
        assert job.row is not None
        memory, seconds, cure = needs.setdefault(repr(work), _needs(work))
        about = None if memory is None else (round(20 * math.log(memory.total)), round(4 * math.log(seconds)))
        place = (job.rule, job.row.task, job.row.model, about, cure)
        found.setdefault(place, []).append((job, job.row, repr(work)))
    groups = []
    for (rule, task, model, *_), jobs in found.items():
        needed = [needs[work] for _, _, work in jobs]
        left = [done is None or not done(job) for job, _, _ in jobs]
        memories = [memory for memory, _, _ in needed if memory is not None]
        groups.append(
            Group(
                str(rule),
                str(task),
                str(model),
                tuple(dict.fromkeys(name_of(row) for _, row, _ in jobs)),
                len(jobs),
                sum(left),
                max(memories, key=lambda memory: memory.total, default=None),
                sum(seconds for _, seconds, _ in needed) / len(jobs) if memories else None,
                sum(seconds for (_, seconds, _), wanted in zip(needed, left, strict=True) if wanted),
                needed[0][2],
            )
        )
    order = list(dict.fromkeys((group.task, group.model) for group in groups))
    return sorted(groups, key=lambda g: (order.index((g.task, g.model)), [*RULES].index(g.kind), -_most(g)))


def _needs(work: Work | None) -> tuple[Memory | None, float, str | None]:
    return (None, 0.0, None) if work is None else (memory_of(work), seconds_of(work), advice(work))


def _most(group: Group) -> float:
    return 0.0 if group.memory is None else group.memory.total


def _row(group: Group, device: Device) -> tuple[str, ...]:
    names = _shortened(group.methods)
    jobs = str(group.jobs) if group.left == group.jobs else f"{group.left} of {group.jobs}"
    first = (group.kind, group.task, group.model, names, jobs)
    if group.memory is None or group.seconds is None:
        return (*first, "unknown", "unknown", "unknown")
    size, minutes = _size(group.memory.total), group.seconds / 60
    if device.memory is not None:
        share = group.memory.total / device.memory
        size += " !" if share > 1 else (" ~" if share > TIGHT else "  ")
    each = f"{minutes:.0f}" if minutes >= 10 else f"{minutes:.1f}"
    return (*first, size, each, _hours(group.seconds_left))


def _shortened(names: Sequence[str]) -> str:
    """The names, or the first ones and how many more there are."""
    shown = list(names)
    while len(", ".join(shown)) > NAMES_WIDTH and len(shown) > 1:
        shown.pop()
    rest = len(names) - len(shown)
    return ", ".join(shown) + (f" and {rest} more" if rest else "")


def aligned(rows: Sequence[tuple[str, ...]], words: int) -> Iterator[str]:
    """Columns; the first `words` of them to the left, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [
            cell.ljust(width) if i < words else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        yield "  ".join(cells).rstrip()


def _totals(groups: Sequence[Group], suite: Suite) -> Iterator[str]:
    total = sum(group.seconds_left for group in groups)
    unit = (
        "a GPU" if device_of(suite.resources).kind == "cuda" else f"{suite.resources.threads} CPU thread(s)"
    )
    done = sum(group.jobs - group.left for group in groups)
    already = f", without the {done} that are done" if done else ""
    yield (
        f"Whole study: {sum(group.left for group in groups)} jobs, {_hours(total)} of {unit}, one after the "
        f"other{already}."
    )
    biggest = max(groups, key=_most, default=None)
    if biggest is not None and biggest.memory is not None:
        yield (
            f"Largest: {biggest.kind} of {biggest.model} ({biggest.methods[0]}), phase "
            f"{biggest.memory.phase}: {_parts(biggest.memory)}."
        )


def _notes(suite: Suite, groups: Sequence[Group], device: Device) -> Iterator[str]:
    cures: dict[tuple[str, str, str], list[str]] = {}
    for group in groups:
        if group.advice is not None:
            cures.setdefault((group.kind, group.model, group.advice), []).extend(group.methods)
    setting = "resources.gpu_memory_gb" if device.kind == "cuda" else "resources.memory_mb"
    for (kind, model, cure), methods in cures.items():
        who = _shortened(list(dict.fromkeys(methods)))
        yield f"! more than {setting}: {kind} of {model} ({who}). What would make it fit: {cure}."
    if any(" ~" in _row(group, device)[5] for group in groups):
        yield f"~ more than {TIGHT:.0%} of {setting}: may fit or not."
    if device.kind == "cuda" and device.memory is None:
        yield "resources.gpu_memory_gb is not set, so nothing is said about what fits."
    for label, model_settings in suite.models.items():
        if shape_of(model_settings) is None:
            yield (
                f"Sizes of the model {label!r} are unknown: its config.json is not at hand. Give "
                f"`models.{label}.shape` for an estimate."
            )
    minutes = max((group.seconds or 0.0 for group in groups), default=0.0) / 60
    if "minutes" in suite.resources.model_fields_set and minutes > suite.resources.minutes:
        yield (
            f"A job may take {minutes:.0f} minutes, and resources.minutes grants {suite.resources.minutes}; "
            "on a cluster it would be ended there, and continue from its checkpoint when started again."
        )
    yield from short_paths(suite)
    yield from power(suite)
    if guessed := [name for name, task in suite.tasks.items() if task.size_hint() is None]:
        yield f"Sizes of {', '.join(guessed)} are guessed: the settings do not tell how much there is."


def _device_line(suite: Suite, device: Device) -> str:
    rate = "its usual rate" if device.tflops is None else f"{device.tflops:g} TFLOP/s"
    if device.kind == "cuda":
        memory = "" if device.memory is None else f" with {device.memory / 1e9:g} GB"
        return f"a GPU{memory} at {UTILISATION:.0%} of {rate}"
    size = "" if device.memory is None else f" with {device.memory / 1e9:.1f} GB"
    return f"{device.threads} CPU thread(s){size} at {UTILISATION:.0%} of {rate}"


def _size(count: float) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e10 else f"{count / 1e9:.2f} GB"


def _hours(seconds: float) -> str:
    return f"{seconds / 3600:.1f} h" if seconds >= 3600 else f"{seconds / 60:.0f} min"
