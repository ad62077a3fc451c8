"""The run table as the workflow uses it: anchors and unlearning runs by key."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pipeline_lib.config.runs import Run
from pipeline_lib.config.suite import Suite
from pipeline_lib.config.tune import Trial, ranges_of, trials_of

ANCHORS = ("original", "retrained")
Key = tuple[str, str, str, str, int]  # task, model, method, optimizer, seed
RowKey = tuple[str, str, str, str]  # all seeds of a key


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


def run_index(suite: Suite) -> dict[Key, Run | None]:
    """Every model of the study, `None` for the anchors, which come first: those of pairs that have runs."""
    index: dict[Key, Run | None] = {}
    runs = suite.run_table()
    used = {(run.task, run.model) for run in runs}
    for task in suite.tasks:
        for model in suite.models:
            for method in anchors_of(suite, task) if (task, model) in used else ():
                for seed in suite.seeds:
                    index[task, model, method, "none", seed] = None
    for run in runs:
        index[run.task, run.model, run.method, run.optimizer, run.seed] = run
    return index


def anchors_of(suite: Suite, task: str) -> tuple[str, ...]:
    """The models that unlearned ones are held against; not every task can have a `retrained`."""
    return ANCHORS if suite.tasks[task].has_retrained() else ANCHORS[:1]


def tuned_index(suite: Suite) -> dict[RowKey, TunedRow]:
    """Every row of a suite with `tune`; empty without."""
    if suite.tune is None:
        return {}
    index = {}
    for run in suite.run_table():
        key = (run.task, run.model, run.method, run.optimizer)
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


def run_labels(suite: Suite) -> list[dict[str, Any]]:
    """What the report needs to know of every row: kinds, order and the name to show."""
    labels = []
    for (task, model, method, optimizer, seed), run in run_index(suite).items():
        labels.append(
            {
                "task": task,
                "model": model,
                "method": method,
                "optimizer": optimizer,
                "seed": seed,
                "objective_kind": run.objective["kind"] if run else "none",
                "optimizer_kind": run.optimizer_settings["kind"] if run else "none",
                "order": run.order if run else "none",
                "display": f"{method} + {display_name(optimizer)}" if run and run.order != "none" else method,
            }
        )
    return labels


_DISPLAY = {"adamw": "AdamW", "signum": "Signum", "sgd": "SGD", "lion": "Lion"}


def display_name(optimizer: str) -> str:
    """How an optimiser's label is shown: `sophia_as_released` becomes `Sophia (as released)`."""
    if optimizer in _DISPLAY:
        return _DISPLAY[optimizer]
    head, _, rest = optimizer.partition("_")
    name = _DISPLAY.get(head, head.capitalize() if head.islower() else head)
    return f"{name} ({rest.replace('_', ' ')})" if rest else name
