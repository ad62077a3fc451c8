"""The run table as the workflow uses it: anchors and unlearning runs by key."""

from __future__ import annotations

from typing import Any

from pipeline_lib.config.runs import Run
from pipeline_lib.config.suite import Suite

ANCHORS = ("original", "retrained")
Key = tuple[str, str, str, str, int]  # task, model, method, optimizer, seed


def run_index(suite: Suite) -> dict[Key, Run | None]:
    """Every model of the study, `None` for the anchors; anchors of a task and model come first."""
    index: dict[Key, Run | None] = {}
    for task in suite.tasks:
        for model in suite.models:
            for method in ANCHORS:
                for seed in suite.seeds:
                    index[task, model, method, "none", seed] = None
    for run in suite.run_table():
        index[run.task, run.model, run.method, run.optimizer, run.seed] = run
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
                "display": f"{method} + {display_name(optimizer)}" if run else method,
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
