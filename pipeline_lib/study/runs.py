"""From blocks of methods and optimisers to single runs, every setting of each resolved."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, TypeVar

from pydantic import Field, ValidationError

from pipeline_lib.core.blocks import Block, Fault, Name, suggestion
from pipeline_lib.core.blocks.messages import describe, show
from pipeline_lib.core.families import Method
from pipeline_lib.core.runs import MATCHED, NO_OPTIMIZER, RowKey
from pipeline_lib.distributed.refusal import refusal
from pipeline_lib.objectives import Objective
from pipeline_lib.optimizers import Optimizer
from pipeline_lib.study.resources import Resources
from pipeline_lib.training.settings import Training, Unlearn

B = TypeVar("B", bound=Block)


class RunBlock(Block):
    """A grid of runs, with settings that hold for this grid only."""

    tasks: list[Name] | None = Field(None, min_length=1, description="Default: every task")
    models: list[Name] | None = Field(None, min_length=1, description="Default: every model")
    methods: list[str] = Field(min_length=1)
    optimizers: list[str] = Field([], description="May be left out for methods that take no step")
    objective: dict[str, Any] = Field({}, description="Overrides of the objectives' settings")
    optimizer: dict[str, Any] = Field({}, description="Overrides of the optimisers' settings")
    unlearn: dict[str, Any] = Field({}, description="Overrides of the block `unlearn`")


@dataclass(frozen=True)
class Run:
    """One row of the run table, every setting resolved. `optimizer_settings`: None where no step is taken."""

    task: str
    model: str
    method: str
    optimizer: str
    seed: int
    objective: Objective
    optimizer_settings: Optimizer | None
    unlearn: Unlearn
    matched: bool = False  # whether it ends where its path crosses the utility of comparison

    @property
    def row(self) -> RowKey:
        after = MATCHED if self.matched else ""
        return RowKey(self.task, self.model, self.method, self.optimizer, after=after)

    @property
    def order(self) -> str:
        """Of the optimiser: ZO = zeroth, FO = first, SO = second; "none" = no step is taken."""
        return "none" if self.optimizer_settings is None else self.optimizer_settings.order

    @property
    def methods(self) -> list[Method]:
        """The objective and, where steps are taken, the optimiser."""
        return [self.objective, *([] if self.optimizer_settings is None else [self.optimizer_settings])]


def expand(
    blocks: Sequence[RunBlock],
    tasks: Collection[str],
    models: Collection[str],
    objectives: Mapping[str, Objective],
    optimizers: Mapping[str, Optimizer],
    unlearn: Unlearn,
) -> tuple[list[Run], list[Fault]]:
    """Every run of the blocks on their tasks and models, with seed 0, and the faults of the blocks.

    The runs are complete only where there is no fault.
    """
    runs: list[Run] = []
    faults: list[Fault] = []
    described: dict[tuple[str, ...], str] = {}  # (task, model, method, optimizer) -> block
    for number, block in enumerate(blocks):
        where = f"runs.{number}"
        for name, labels, known in (
            ("tasks", block.tasks or (), tasks),
            ("models", block.models or (), models),
            ("methods", block.methods, objectives),
            ("optimizers", block.optimizers, optimizers),
        ):
            unknown = [label for label in labels if label not in known]
            faults += [(f"{where}.{name}", f"found {show(x)}; {suggestion(x, known)}") for x in unknown]
        losses = _resolved(objectives, block.methods, block.objective, f"{where}.objective", faults)
        steppers = _resolved(optimizers, block.optimizers, block.optimizer, f"{where}.optimizer", faults)
        training = changed(unlearn, block.unlearn, f"{where}.unlearn", faults)
        pairs = [pair for label in block.methods for pair in _pairs(label, objectives, block.optimizers)]
        for method, optimizer in pairs:
            if optimizer == "" and method in losses:
                faults.append(
                    (f"{where}.optimizers", f"is missing; {method} is trained, so name at least one")
                )
        places = [
            (task, model)
            for task in (tasks if block.tasks is None else [t for t in block.tasks if t in tasks])
            for model in (models if block.models is None else [m for m in block.models if m in models])
        ]
        cure = "a variant needs its own label under `objectives` or `optimizers`"
        twice = dict.fromkeys(_twice(pairs, places, described, where))
        faults += [(where, f"{words} appears twice{first}; {cure}") for first, words in twice]
        for label, stepper in steppers.items():
            messages = _unfit(stepper or optimizers[label], losses.values(), training)
            faults += [(f"{where}.optimizers", f"{label}: {message}") for message in messages]
        for place, (method, optimizer) in product(places, pairs):
            loss, stepper = losses.get(method), steppers.get(optimizer)
            if loss is not None and (stepper is not None or optimizer == NO_OPTIMIZER):
                runs.append(Run(*place, method, optimizer, 0, loss, stepper, training or unlearn))
    return runs, faults


def _unfit(
    optimizer: Optimizer, losses: Iterable[Objective | None], training: Unlearn | None
) -> Iterator[str]:
    """Why the optimiser cannot train as is asked, or by its smoothing one of these objectives."""
    smoothing = optimizer.smoothing
    reason = optimizer.needs_fp32 or (smoothing and smoothing.needs_fp32)
    if reason and training is not None and training.weights != "fp32":
        yield f"found `weights: {training.weights}`; {reason}, which needs `weights: fp32`"
    if optimizer.on_device is not None and training is not None and training.offload:
        yield f"found `offload: true`, which is of no use: {optimizer.on_device}; leave it out"
    if smoothing is not None:
        trained = (loss for loss in losses if loss is not None and loss.trained)
        yield from filter(None, map(smoothing.refusal, trained))


def changed(
    block: B, changes: Mapping[str, Any], where: str, faults: list[Fault], owner: str = ""
) -> B | None:
    """The block with the changes; None where they do not fit, which goes to `faults` after `owner`."""
    try:
        return type(block).model_validate({**block.model_dump(), **changes})
    except ValidationError as error:
        found = describe(error, type(block), settled=("kind",))
        faults += [(f"{where}.{path}", f"{owner}{message}") for path, message in found]
        return None


def _pairs(
    method: str, objectives: Mapping[str, Objective], optimizers: Sequence[str]
) -> list[tuple[str, str]]:
    """The method with each optimiser: NO_OPTIMIZER where it takes no step, "" where the block lacks one."""
    if method in objectives and not objectives[method].trained:
        return [(method, NO_OPTIMIZER)]
    return [(method, optimizer) for optimizer in optimizers or ("",)]


def _twice(
    pairs: Sequence[tuple[str, str]],
    places: Sequence[tuple[str, str]],
    described: dict[tuple[str, ...], str],
    where: str,
) -> Iterator[tuple[str, str]]:
    """Pairs that an earlier block has for the same task and model, or this block has twice."""
    for key in ((*place, *pair) for place in places for pair in pairs):
        if key in described:
            yield "" if described[key] == where else f", first in {described[key]}", " with ".join(key[2:])
        described.setdefault(key, where)


def _resolved(
    family: Mapping[str, B],
    labels: Sequence[str],
    changes: Mapping[str, Any],
    where: str,
    faults: list[Fault],
) -> dict[str, B | None]:
    """Each known label with the changes; None where they do not fit it."""
    known = dict.fromkeys(label for label in labels if label in family)
    if known and "kind" in changes:
        faults.append((f"{where}.kind", "cannot change here; give the other kind a label of its own"))
        changes = {key: value for key, value in changes.items() if key != "kind"}
    return {label: changed(family[label], changes, where, faults, f"{label}: ") for label in known}


def sharding_faults(
    resources: Resources, runs: Sequence[Run], others: Iterable[Training] = ()
) -> Iterator[Fault]:
    """Why `resources.sharding` cannot serve a run or another training; none without sharding."""
    sharded = resources.sharding != "none"
    for run in runs if sharded else ():
        if message := refusal(*run.methods):
            yield "resources.sharding", message
    if sharded and any(t.offload for t in (*(run.unlearn for run in runs), *others)):
        yield (
            "resources.sharding",
            "excludes `offload`: parts of the states lie on every GPU already; leave one of the two out",
        )
