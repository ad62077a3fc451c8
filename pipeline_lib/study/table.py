"""The run table as the workflow uses it: anchors and unlearning runs by key."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from pipeline_lib.core.runs import RowKey, RunKey
from pipeline_lib.optimizers import OPTIMIZERS
from pipeline_lib.study.runs import Run
from pipeline_lib.study.stages import StagedRow, applied
from pipeline_lib.study.suite import Suite
from pipeline_lib.study.tune import Trial, ranges_of, trials_of


@dataclass(frozen=True)
class TunedRow:
    """How the settings of one row are found.

    `objective` and `optimizer`: the settings that are not tuned. `ranges`: part of a run -> setting -> range
    or list of values. `trials`: what is tried, from number 1 on, with the settings `unlearn` of the row.
    """

    objective: dict[str, Any]
    optimizer: dict[str, Any]
    unlearn: dict[str, Any]
    ranges: dict[str, dict[str, Any]]
    trials: dict[int, Trial]


def models_of(suite: Suite) -> dict[RunKey, Run | StagedRow | None]:
    """Every model that is judged: anchors (None), unlearned ones, and what stages make of these."""
    made: dict[RowKey, Run | StagedRow | None] = dict.fromkeys(suite.rows())
    made |= {run.row: run for run in suite.run_table()}
    made |= {row.key: row for row in applied(suite.stages, suite.rows()).rows}
    return {
        row.seeded(seed): replace(found, seed=seed) if isinstance(found, Run) else found
        for row, found in made.items()
        for seed in suite.seeds
    }


def tuned_index(suite: Suite) -> dict[RowKey, TunedRow]:
    """Every row of a suite with `tune`; empty without."""
    if suite.tune is None:
        return {}
    index = {}
    for run in suite.run_table():
        key = run.row
        if key not in index and run.order != "none":
            ranges = ranges_of(suite.tune, run)
            index[key] = TunedRow(
                {k: v for k, v in run.objective.items() if k not in ranges["objective"]},
                {k: v for k, v in run.optimizer_settings.items() if k not in ranges["optimizer"]},
                run.unlearn,
                ranges,
                dict(enumerate(trials_of(suite.tune, run, suite.families), start=1)),
            )
    return index


def run_labels(models: Mapping[RunKey, Run | StagedRow | None]) -> list[dict[str, Any]]:
    """What the report needs to know of every model: kinds, order and the name to show."""
    labels: dict[RowKey, dict[str, Any]] = {}
    for key, made in models.items():
        if key.row not in labels:
            labels[key.row] = (
                _of_parents(key, made, labels) if isinstance(made, StagedRow) else _label(key, made)
            )
    return [{**key._asdict(), **labels[key.row]} for key in models]


def _label(key: RunKey, run: Run | None) -> dict[str, Any]:
    optimised = run is not None and run.order != "none"
    optimizer = OPTIMIZERS.kinds().get(run.optimizer_settings["kind"]) if run else None
    return {
        "reference": optimizer is not None and optimizer.reference,
        "order": run.order if run else "none",
        "display": f"{key.method} + {display_name(key.optimizer)}" if optimised else key.method,
    }


def _of_parents(key: RunKey, made: StagedRow, labels: Mapping[RowKey, dict[str, Any]]) -> dict[str, Any]:
    """A model of one parent is shown as that parent, and then what was done; one of several by its label."""
    parent = labels[made.parents[0]]
    if not made.stage.several:
        return {**parent, "display": f"{parent['display']}, then {made.label}"}
    return {"reference": False, "order": "none", "display": key.method}


def display_name(optimizer: str) -> str:
    """How an optimiser's label is shown: `sophia_as_released` becomes `Sophia (as released)`."""
    names = {kind: method.display for kind, method in OPTIMIZERS.kinds().items()}
    if optimizer in names:
        return names[optimizer]
    head, _, rest = optimizer.partition("_")
    name = names.get(head, head.capitalize() if head.islower() else head)
    return f"{name} ({rest.replace('_', ' ')})" if rest else name
