"""The stages of a suite: which models they make, from which parents, and their faults."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from pipeline_lib.core.blocks import Fault, suggestion
from pipeline_lib.core.blocks.messages import show
from pipeline_lib.core.runs import ANCHORS, NO_OPTIMIZER, RowKey
from pipeline_lib.stages.base import Stage

Pair = tuple[str, str]  # task, model


@dataclass(frozen=True)
class StagedRow:
    """One row that a stage makes, alike for every seed. `parents`: the rows it starts from, in order."""

    key: RowKey
    label: str
    stage: Stage
    parents: tuple[RowKey, ...]


def applied(stages: Mapping[str, Stage], rows: Collection[RowKey]) -> tuple[list[StagedRow], list[Fault]]:
    """What the stages make of these rows (anchors among them), in a possible order of work; and faults.

    A stage waits until every model that it names exists, so it may stand before a stage that it builds on.
    A name that never exists is a fault: no model has it, or stages wait for each other.
    """
    found: list[StagedRow] = []
    pairs = list(dict.fromkeys((row.task, row.model) for row in rows))
    named: dict[Pair, dict[str, RowKey]] = {pair: {} for pair in pairs}
    for row in rows:
        named[row.task, row.model][name_of(row)] = row
    faults = [*_label_faults(stages, {row.method for row in rows})]
    for label, stage in stages.items():
        for family, wanted, known in (
            ("tasks", stage.tasks or (), {task for task, _ in pairs}),
            ("models", stage.models or (), {model for _, model in pairs}),
        ):
            unknown, where = [name for name in wanted if name not in known], f"stages.{label}.{family}"
            faults += [(where, f"found {show(name)}; {suggestion(name, known)}") for name in unknown]
    waiting = {label: pairs_of(stage, pairs) for label, stage in stages.items()}
    while any(waiting.values()):
        ready = [
            (label, pair)
            for label, some in waiting.items()
            for pair in some
            if not _missing(stages[label], named[pair])
        ]
        if not ready:
            return found, [*faults, *_never(stages, waiting, named)]
        for label, pair in ready:
            waiting[label].remove(pair)
            made = list(_made(label, stages[label], pair, named[pair]))
            named[pair] |= {name_of(row.key): row.key for row in made}
            found += made
    return found, faults


def name_of(row: RowKey) -> str:
    """How a stage names a row of its task and model."""
    name = row.method if row.optimizer == NO_OPTIMIZER else f"{row.method}+{row.optimizer}"
    return f"{name}/{row.after}" if row.after else name


def pairs_of(stage: Stage, pairs: Collection[Pair]) -> list[Pair]:
    """The tasks and models that a stage is for."""
    return [
        (task, model)
        for task, model in pairs
        if (stage.tasks is None or task in stage.tasks) and (stage.models is None or model in stage.models)
    ]


def _missing(stage: Stage, named: Mapping[str, RowKey]) -> list[str]:
    return [name for name in stage.of or () if name not in named]


def _made(label: str, stage: Stage, pair: Pair, named: Mapping[str, RowKey]) -> Iterator[StagedRow]:
    unlearned = [row for row in named.values() if not row.after and row.method not in ANCHORS]
    parents = unlearned if stage.of is None else [named[name] for name in stage.of]
    if stage.several:
        yield StagedRow(RowKey(*pair, label, NO_OPTIMIZER), label, stage, tuple(parents))
        return
    for parent in parents:
        after = f"{parent.after}/{label}" if parent.after else label
        yield StagedRow(parent._replace(after=after), label, stage, (parent,))


def _label_faults(stages: Mapping[str, Stage], methods: Collection[str]) -> Iterator[Fault]:
    taken = {method.lower(): method for method in (*methods, *ANCHORS)}
    for label, stage in stages.items():
        where = f"stages.{label}"
        if label.lower() in taken:
            yield where, f"{taken[label.lower()]!r} is the label of another model; choose another label"
        taken[label.lower()] = label
        if "." in label:
            yield where, "a stage's label becomes a part of a folder's name and holds no dot"
        names = list(stage.of or ())
        if stage.several and len(names) < 2:
            yield f"{where}.of", f"{stage.kind} makes one model of several: name at least two"
        for name in dict.fromkeys(name for name in names if names.count(name) > 1):
            yield f"{where}.of", f"{name} appears twice"


def _never(
    stages: Mapping[str, Stage],
    waiting: Mapping[str, list[Pair]],
    named: Mapping[Pair, Mapping[str, RowKey]],
) -> Iterator[Fault]:
    """Why the stages that are left can never be made."""
    late = [label for label, pairs in waiting.items() if pairs]
    told = False
    for label in late:
        for pair in waiting[label]:
            for name in _missing(stages[label], named[pair]):
                if any(part in late for part in name.split("/")):
                    continue  # it waits for another stage, which has its own fault
                told = True
                if name.split("/")[0] == "retrained":
                    fault = (
                        f"{name}: the task {pair[0]!r} cannot have a `retrained`; name the tasks that the "
                        "stage is for (`tasks`)"
                    )
                else:
                    allowed = suggestion(name, named[pair])
                    fault = f"found {name}; no model of {pair[0]}, {pair[1]} has this name; {allowed}"
                yield f"stages.{label}.of", fault
    if not told:
        yield (
            f"stages.{late[0]}.of",
            f"{' and '.join(late)} wait for each other; let one of them start from a trained model",
        )
