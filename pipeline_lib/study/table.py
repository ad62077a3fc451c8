"""The models of a study by key: anchors, unlearning runs, and the results of stages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from pipeline_lib.core.grouping import grouped
from pipeline_lib.core.runs import MATCHED, RowKey, RunKey
from pipeline_lib.optimizers import OPTIMIZERS
from pipeline_lib.study.runs import Run
from pipeline_lib.study.stages import StagedRow, applied
from pipeline_lib.study.suite import Suite
from pipeline_lib.study.tune import TunedRow


def models_of(suite: Suite) -> dict[RunKey, Run | StagedRow | None]:
    """Every model that is evaluated: anchors (None), unlearned ones, and what stages make of these."""
    made: dict[RowKey, Run | StagedRow | None] = dict.fromkeys(suite.rows())
    made |= {run.row: run for run in (*suite.run_table(), *suite.matched_table())}
    made |= {row.key: row for row in applied(suite.stages, suite.rows())[0]}
    return {
        row.seeded(seed): replace(found, seed=seed) if isinstance(found, Run) else found
        for row, found in made.items()
        for seed in suite.seeds_of(row)
    }


def tuned_index(suite: Suite) -> dict[RowKey, TunedRow]:
    """Every row of a suite with `tune`; empty without."""
    tune, runs = suite.tune, {run.row: run for run in suite.run_table() if run.order != "none"}
    return {} if tune is None else {row: TunedRow.of(tune, run) for row, run in runs.items()}


def run_labels(models: Mapping[RunKey, Run | StagedRow | None]) -> list[dict[str, Any]]:
    """What the report needs to know of every model: kinds, order and the name to show."""
    labels: dict[RowKey, dict[str, Any]] = {}
    for key, made in models.items():
        if key.row not in labels:
            labels[key.row] = (
                _of_parents(key, made, labels) if isinstance(made, StagedRow) else _label(key, made)
            )
    for row, controlled in _controls({key.row: made for key, made in models.items()}).items():
        labels[row] = {**labels[row], "controls": controlled}
    return [{**key._asdict(), **labels[key.row]} for key in models]


def _controls(rows: Mapping[RowKey, Run | StagedRow | None]) -> dict[RowKey, list[str]]:
    """Of every row that is a control: the optimisers of its method whose control it is, where there are some.

    A model after stages is none: it is held against the model from which it was made.
    """
    taken = {
        row: run.optimizer_settings
        for row, run in rows.items()
        if isinstance(run, Run) and run.optimizer_settings is not None
    }
    plain = grouped(
        ((row._replace(optimizer=optimizer.kind), optimizer.smoothing), row.optimizer)
        for row, optimizer in taken.items()
        if optimizer.control_of is None
    )
    found = {
        row: plain.get((row._replace(optimizer=optimizer.control_of), optimizer.smoothing))
        for row, optimizer in taken.items()
        if optimizer.control_of is not None
    }
    return {row: controlled for row, controlled in found.items() if controlled}


def _label(key: RunKey, run: Run | None) -> dict[str, Any]:
    optimizer = None if run is None else run.optimizer_settings
    return {
        "reference": optimizer is not None and optimizer.reference and optimizer.smoothing is None,
        "order": "none" if optimizer is None else optimizer.order,
        "display": (key.method if optimizer is None else f"{key.method} + {display_name(key.optimizer)}")
        + (f", {MATCHED}" if key.after == MATCHED else ""),
        "unlearned": run is not None,
    }


def _of_parents(key: RunKey, made: StagedRow, labels: Mapping[RowKey, dict[str, Any]]) -> dict[str, Any]:
    """The label of a model from one parent extends the parent's; one from several has the stage's label."""
    parent = labels[made.parents[0]]
    alone = {"likelihood_only": True} if made.stage.likelihood_only else {}
    alone |= {"asked": True} if made.stage.asks else {}
    alone |= {"draws_only": True} if made.stage.draws_only() else {}
    if not made.stage.several:
        groups = made.stage.learned_groups(key.task)
        learned = {"learned": {**parent.get("learned", {}), made.label: groups}} if groups else {}
        own = {name: value for name, value in parent.items() if name != "likelihood_only"}
        return {**own, "display": f"{parent['display']}, then {made.label}", **learned, **alone}
    unlearned = any(labels[row]["unlearned"] for row in made.parents)
    return {"reference": False, "order": "none", "display": key.method, "unlearned": unlearned, **alone}


def display_name(optimizer: str) -> str:
    """How an optimiser's label is shown: `sophia_as_released` becomes `Sophia (as released)`."""
    names = {kind: method.display for kind, method in OPTIMIZERS.kinds().items()}
    if optimizer in names:
        return names[optimizer]
    head, _, rest = optimizer.partition("_")
    name = names.get(head, head.capitalize() if head.islower() else head)
    return f"{name} ({rest.replace('_', ' ')})" if rest else name
