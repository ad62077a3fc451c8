"""The stages of a suite: which models they make, from which parents, and their faults."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline_lib.core.blocks import Fault, suggestion
from pipeline_lib.core.blocks.messages import show
from pipeline_lib.core.runs import ANCHORS, FINE_TUNED, MATCHED, NO_OPTIMIZER, RowKey
from pipeline_lib.stages.base import Stage, name_of

if TYPE_CHECKING:
    from pipeline_lib.models.settings import ModelSettings
    from pipeline_lib.tasks.base import TaskSettings

Pair = tuple[str, str]  # task, model
# Characters of a chain of labels. A file's name has at most 255 on most disks: this leaves room for the seed
# before the chain, and for endings after it, such as those of a log's companions.
LONGEST_CHAIN = 200


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
    unlearned = {
        pair: [row for row in rows if row[:2] == pair and not (row.anchor or row.after)] for pair in pairs
    }
    faults: list[Fault] = []
    asked: set[RowKey] = set()
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
            # A name that some other task's model has is left out here; one that none has is a fault.
            lacking = [
                (label, pair)
                for label, some in waiting.items()
                for pair in some
                if _elsewhere(stages[label], named[pair], pairs_of(stages[label], pairs), named)
            ]
            if not lacking:
                return found, [*faults, *_never(stages, waiting, named)]
            ready = lacking[:1]
        for label, pair in ready:
            waiting[label].remove(pair)
            made = list(_made(label, stages[label], pair, named[pair], unlearned[pair]))
            named[pair] |= {name_of(row.key): row.key for row in made}
            faults += [
                (f"stages.{label}.of", f"{name_of(parent)} is a model asked in another way, and no new model")
                for row in made
                for parent in row.parents
                if parent in asked
            ]
            asked |= {row.key for row in made if stages[label].asks}
            faults += [
                (f"stages.{label}.{field}", message)
                for row in made
                for field, message in row.stage.faults(len(row.parents))
            ]
            faults += [
                (
                    f"stages.{label}",
                    f"the labels of {row.key.after} become one folder's name: found {len(row.key.after)} "
                    f"characters, allowed {LONGEST_CHAIN}; choose shorter labels",
                )
                for row in made
                if len(row.key.after) > LONGEST_CHAIN
            ]
            found += made
    return found, faults


def pairs_of(stage: Stage, pairs: Collection[Pair]) -> list[Pair]:
    """The tasks and models that a stage is for."""
    return [
        (task, model)
        for task, model in pairs
        if (stage.tasks is None or task in stage.tasks) and (stage.models is None or model in stage.models)
    ]


def _missing(stage: Stage, named: Mapping[str, RowKey]) -> list[str]:
    return [name for name in (*(stage.of or ()), *stage.partners().values()) if name not in named]


def _elsewhere(
    stage: Stage,
    here: Mapping[str, RowKey],
    pairs: Collection[Pair],
    named: Mapping[Pair, Mapping[str, RowKey]],
) -> bool:
    """Whether all names missing here, of a stage of single models, are models of its other tasks."""
    if stage.several or any(name not in here for name in stage.partners().values()):
        return False
    # A task without a `retrained` has to be left out in words: nothing is held against it there.
    missing = [name for name in _missing(stage, here) if name.split("/")[0] not in FINE_TUNED]
    return len(missing) == len(_missing(stage, here)) and all(
        any(name in named[pair] for pair in pairs) for name in missing
    )


def _made(
    label: str, stage: Stage, pair: Pair, named: Mapping[str, RowKey], unlearned: Sequence[RowKey]
) -> Iterator[StagedRow]:
    partners = tuple(named[name] for name in stage.partners().values())
    chosen = [row for row in unlearned if row not in partners]
    parents = chosen if stage.of is None else [named[name] for name in stage.of if name in named]
    if stage.several:
        yield StagedRow(RowKey(*pair, label, NO_OPTIMIZER), label, stage, tuple(parents))
        return
    for parent in parents:
        after = f"{parent.after}/{label}" if parent.after else label
        yield StagedRow(parent._replace(after=after), label, stage, (parent, *partners))


def label_faults(stages: Mapping[str, Stage], objectives: Collection[str]) -> Iterator[Fault]:
    """Labels that other models may have or that folders' names cannot hold, and what is wrong with `of`."""
    taken = {label.lower(): label for label in (*objectives, *ANCHORS, MATCHED)}
    for label, stage in stages.items():
        where = f"stages.{label}"
        if label.lower() in taken:
            yield (
                where,
                f"{taken[label.lower()]!r} is the label of an objective or of another model; "
                "choose another label",
            )
        if re.fullmatch(r"request\d+", label):
            yield where, "in a folder's name this is the number of a removal request; choose another label"
        if "." in label:
            yield where, "a stage's label becomes a part of a folder's name and holds no dot"
        names = list(stage.of or ())
        if stage.several and len(names) < 2:
            yield f"{where}.of", f"{stage.kind} makes one model of several: name at least two"
        for name in dict.fromkeys(name for name in names if names.count(name) > 1):
            yield f"{where}.of", f"{name} appears twice"


def place_faults(
    stages: Mapping[str, Stage],
    models: Mapping[str, ModelSettings],
    tasks: Mapping[str, TaskSettings],
    processes: int,
) -> Iterator[Fault]:
    """Models that stages do not keep, tasks and splits that there are not, and too many processes."""
    for label, stage in stages.items():
        for model in stage.models or models:
            if model in models and (base := models[model].base) is not None:
                yield (
                    f"stages.{label}.models",
                    f"the model {model!r} has `base: {base.kind}`, and a stage does not keep weights "
                    f"{base.kind}; name other models, or leave `base` out of the model block",
                )
        if stage.judged() is not None and processes > 1:
            yield (
                f"stages.{label}.points",
                "needs `resources.processes: 1`: a stage in several processes is not judged on its way. "
                "Attacks are not with `attacks.points: null`",
            )
        for task in dict.fromkeys(map(stage.data_of, stage.tasks or tasks)):
            if task not in tasks:
                yield f"stages.{label}.task", f"found {show(task)}; {suggestion(task, tasks)}"
                continue
            known = {*tasks[task].evaluated_splits(), *(tasks[task].size_hint() or ())}
            for split in stage.splits():
                if split not in known:
                    yield (
                        f"stages.{label}.split",
                        f"found {show(split)}; {suggestion(split, known)} (splits of {task})",
                    )


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
                if name.split("/")[0] == "retrained" and "retrained" not in named[pair]:
                    fault = (
                        f"{name}: the task {pair[0]!r} cannot have a `retrained`; name the tasks that the "
                        "stage is for (`tasks`)"
                    )
                else:
                    known = [of for of in named[pair] if "/" in name or "/" not in of]
                    allowed = suggestion(name, known)
                    fault = f"found {name}; no model of {pair[0]}, {pair[1]} has this name; {allowed}"
                by_name = {name: field for field, name in stages[label].partners().items()}
                yield f"stages.{label}.{by_name.get(name, 'of')}", fault
    if not told:
        many = len(late) > 1
        circle = "wait for each other; let one of them" if many else "waits for itself; let it"
        yield f"stages.{late[0]}.of", f"{' and '.join(late)} {circle} start from a trained model"
