"""From blocks of methods and optimisers to single runs, every setting of each resolved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from pydantic import Field, ValidationError

from pipeline_lib.blocks import Block, Fault, suggestion
from pipeline_lib.blocks.faults import describe
from pipeline_lib.config.methods import SECOND_ORDER


class RunBlock(Block):
    """A grid of runs, with settings that hold for this grid only."""

    methods: list[str] = Field(min_length=1)
    optimizers: list[str] = Field(min_length=1)
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
    def order(self) -> str:
        """FO = first-order, SO = second-order optimiser."""
        return "SO" if self.optimizer_settings["kind"] in SECOND_ORDER else "FO"


def expand(
    blocks: Sequence[RunBlock],
    places: Sequence[tuple[str, str]],
    objectives: Mapping[str, Block],
    optimizers: Mapping[str, Block],
    unlearn: Block,
) -> tuple[list[Run], list[Fault]]:
    """Every run of the blocks on every (task, model), with seed 0, and what is wrong with the blocks.

    Runs are complete only where nothing is wrong.
    """
    runs: list[Run] = []
    faults: list[Fault] = []
    described: dict[tuple[str, str], str] = {}  # (method, optimizer) -> block
    for number, block in enumerate(blocks):
        where = f"runs.{number}"
        faults += _unknown(f"{where}.methods", block.methods, objectives)
        faults += _unknown(f"{where}.optimizers", block.optimizers, optimizers)
        losses = _resolved(objectives, block.methods, block.objective, f"{where}.objective", faults)
        steppers = _resolved(optimizers, block.optimizers, block.optimizer, f"{where}.optimizer", faults)
        training = _changed(unlearn, block.unlearn, f"{where}.unlearn", "", faults)
        for pair in product(block.methods, block.optimizers):
            if pair in described:
                cure = "a variant needs its own label under `objectives` or `optimizers`"
                first = "" if described[pair] == where else f", first in {described[pair]}"
                faults.append((where, f"{' with '.join(pair)} stands there twice{first}; {cure}"))
            described.setdefault(pair, where)
        weights = training.get("weights", "fp32")
        for optimizer, stepper in steppers.items():
            if stepper.get("kind") == "influence" and weights != "fp32":
                cure = "it solves a linear system, which needs `weights: fp32`"
                faults.append((f"{where}.optimizers", f"{optimizer}: found `weights: {weights}`; {cure}"))
        for (task, model), method, optimizer in product(places, block.methods, block.optimizers):
            if method in losses and optimizer in steppers:
                settings = losses[method], steppers[optimizer], training
                runs.append(Run(task, model, method, optimizer, 0, *settings))
    return runs, faults


def _unknown(where: str, labels: Sequence[str], family: Mapping[str, Block]) -> list[Fault]:
    return [
        (where, f"found {label!r}; {suggestion(label, family)}") for label in labels if label not in family
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
    return {label: _changed(family[label], changes, where, f"{label}: ", faults) for label in known}


def _changed(
    block: Block, changes: dict[str, Any], where: str, owner: str, faults: list[Fault]
) -> dict[str, Any]:
    """Settings of `block` with the changes; what does not fit goes to `faults`, with `owner` before it."""
    try:
        return type(block).model_validate({**block.model_dump(), **changes}).model_dump()
    except ValidationError as error:
        found = describe(error, type(block), settled=("kind",))
        faults += [(f"{where}.{path}", f"{owner}{message}") for path, message in found]
        return {}
