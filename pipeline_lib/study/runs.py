"""From blocks of methods and optimisers to single runs, every setting of each resolved."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import Field

from pipeline_lib.core.blocks import Block, Fault, Name, suggestion
from pipeline_lib.core.blocks.messages import show
from pipeline_lib.core.families import Method
from pipeline_lib.core.runs import NO_OPTIMIZER, RowKey
from pipeline_lib.objectives import OBJECTIVES, Objective
from pipeline_lib.optimizers import OPTIMIZERS, Optimizer
from pipeline_lib.study.overrides import changed


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
    """One row of the run table, every setting resolved."""

    task: str
    model: str
    method: str
    optimizer: str
    seed: int
    objective: dict[str, Any]
    optimizer_settings: dict[str, Any]
    unlearn: dict[str, Any]

    @property
    def row(self) -> RowKey:
        return RowKey(self.task, self.model, self.method, self.optimizer)

    @property
    def order(self) -> str:
        """Of the optimiser: FO = first, SO = second; "none" = no step is taken."""
        if self.optimizer == NO_OPTIMIZER:
            return "none"
        return OPTIMIZERS.kinds()[self.optimizer_settings["kind"]].order


def methods_of(objective: Mapping[str, Any], optimizer: Mapping[str, Any]) -> list[Method]:
    """The objective and, where steps are taken, the optimiser of a run with these settings."""
    loss: Method = OBJECTIVES.parse(objective)
    return [loss] if optimizer["kind"] == NO_OPTIMIZER else [loss, OPTIMIZERS.parse(optimizer)]


def expand(
    blocks: Sequence[RunBlock],
    tasks: Collection[str],
    models: Collection[str],
    objectives: Mapping[str, Objective],
    optimizers: Mapping[str, Optimizer],
    unlearn: Block,
) -> tuple[list[Run], list[Fault]]:
    """Every run of the blocks on their tasks and models, with seed 0, and what is wrong with the blocks.

    Runs are complete only where nothing is wrong.
    """
    runs: list[Run] = []
    faults: list[Fault] = []
    described: dict[tuple[str, ...], str] = {}  # (task, model, method, optimizer) -> block
    for number, block in enumerate(blocks):
        where = f"runs.{number}"
        faults += _unknown(f"{where}.tasks", block.tasks or (), tasks)
        faults += _unknown(f"{where}.models", block.models or (), models)
        faults += _unknown(f"{where}.methods", block.methods, objectives)
        faults += _unknown(f"{where}.optimizers", block.optimizers, optimizers)
        losses = _resolved(objectives, block.methods, block.objective, f"{where}.objective", faults)
        steppers = _resolved(optimizers, block.optimizers, block.optimizer, f"{where}.optimizer", faults)
        steppers[NO_OPTIMIZER] = {"kind": NO_OPTIMIZER}
        whole = changed(unlearn, block.unlearn, f"{where}.unlearn", faults)
        training = {} if whole is None else whole.model_dump()
        pairs = [pair for label in block.methods for pair in _pairs(label, objectives, block.optimizers)]
        for method, optimizer in pairs:
            if optimizer == "" and method in losses:
                message = f"is missing; {method} is trained, so name at least one"
                faults.append((f"{where}.optimizers", message))
        places = [
            (task, model)
            for task in (tasks if block.tasks is None else [t for t in block.tasks if t in tasks])
            for model in (models if block.models is None else [m for m in block.models if m in models])
        ]
        for first, words in dict.fromkeys(_twice(pairs, places, described, where)):
            cure = "a variant needs its own label under `objectives` or `optimizers`"
            faults.append((where, f"{words} stands there twice{first}; {cure}"))
        for optimizer in dict.fromkeys(label for label in block.optimizers if label in optimizers):
            reason = optimizers[optimizer].needs_fp32
            if reason is not None and training.get("weights", "fp32") != "fp32":
                cure = f"{reason}, which needs `weights: fp32`"
                message = f"{optimizer}: found `weights: {training['weights']}`; {cure}"
                faults.append((f"{where}.optimizers", message))
        for task, model in places:
            for method, optimizer in pairs:
                if losses.get(method) and steppers.get(optimizer):  # whole, without a fault
                    settings = losses[method], steppers[optimizer], training
                    runs.append(Run(task, model, method, optimizer, 0, *settings))
    return runs, faults


def _pairs(
    method: str, objectives: Mapping[str, Objective], optimizers: Sequence[str]
) -> list[tuple[str, str]]:
    """The method with each optimiser; with none where it takes no step, with "" where it lacks one."""
    if method in objectives and not objectives[method].trained:
        return [(method, NO_OPTIMIZER)]
    return [(method, optimizer) for optimizer in optimizers or ("",)]


def _twice(
    pairs: Sequence[tuple[str, str]],
    places: Sequence[tuple[str, str]],
    described: dict[tuple[str, ...], str],
    where: str,
) -> Iterator[tuple[str, str]]:
    """Pairs that stand in this block or an earlier one already, for the same task and model."""
    for place in places:
        for pair in pairs:
            key = (*place, *pair)
            if key in described:
                yield "" if described[key] == where else f", first in {described[key]}", " with ".join(pair)
            described.setdefault(key, where)


def _unknown(where: str, labels: Sequence[str], family: Collection[str]) -> list[Fault]:
    return [
        (where, f"found {show(label)}; {suggestion(label, family)}")
        for label in labels
        if label not in family
    ]


def _resolved(
    family: Mapping[str, Block],
    labels: Sequence[str],
    changes: dict[str, Any],
    where: str,
    faults: list[Fault],
) -> dict[str, dict[str, Any]]:
    """Settings of each known label, with the changes."""
    known = dict.fromkeys(label for label in labels if label in family)
    if known and "kind" in changes:
        faults.append((f"{where}.kind", "cannot change here; give the other kind a label of its own"))
        changes = {key: value for key, value in changes.items() if key != "kind"}
    found = {label: changed(family[label], changes, where, faults, f"{label}: ") for label in known}
    return {label: {} if block is None else block.model_dump() for label, block in found.items()}
