"""Every table and figure by name, and the files each one reads. A new one is one file and one line here.

Nothing heavy is imported until an item is made, so that a Snakefile can ask what an item needs.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from types import ModuleType
from typing import Any

from pipeline_lib.errors import UserError


@dataclass(frozen=True)
class Item:
    """`module` has CAPTION and `build` (a table) or `draw` (a figure).

    `needs` are names of files; which one belongs to which run is told by its folder (inputs.py).
    `only_with` names what a suite must measure for it: a block of `evaluation`, or "holdout".
    """

    module: str
    title: str
    needs: tuple[str, ...]
    only_with: str | None = None

    def load(self) -> ModuleType:
        return import_module(f"pipeline_lib.reporting.{self.module}")


TABLES = {
    "main": Item("tables.main", "Forgetting and utility", ("runs.json", "metrics.csv")),
    "comparisons": Item(
        "tables.comparisons", "Paired comparisons", ("runs.json", "metrics.csv", "suite.yaml")
    ),
    "utility": Item(
        "tables.utility", "The parts of model utility", ("runs.json", "metrics.csv", "manifest.json")
    ),
    "collapse": Item(
        "tables.collapse", "Forgetting or collapse: what the answers look like", ("runs.json", "metrics.csv")
    ),
    "membership": Item(
        "tables.membership", "Membership inference", ("runs.json", "metrics.csv"), only_with="holdout"
    ),
    "samples": Item(
        "tables.samples", "What sampled answers give away", ("runs.json", "metrics.csv"), only_with="samples"
    ),
    "as_released": Item(
        "tables.as_released",
        "The protocol of the paper's code",
        ("runs.json", "metrics.csv"),
        only_with="as_released",
    ),
    "benchmarks": Item(
        "tables.benchmarks", "Standard benchmarks", ("runs.json", "metrics.csv"), only_with="benchmarks"
    ),
    "toxicity": Item("tables.toxicity", "Toxicity", ("runs.json", "metrics.csv"), only_with="toxicity"),
    "cost": Item("tables.cost", "Cost", ("runs.json", "costs.csv")),
    "settings": Item("tables.settings", "Settings of every row", ("runs.json", "run.json")),
    "tuning": Item("tables.tuning", "How the settings were found", ("runs.json", "run.json")),
}

FIGURES = {
    "tradeoff": Item("figures.tradeoff", "Forgetting against utility", ("runs.json", "metrics.csv")),
    "distance": Item(
        "figures.distance", "Distance from the retrained model, row by row", ("runs.json", "metrics.csv")
    ),
    "truth_ratio": Item(
        "figures.truth_ratio",
        "Truth ratios of the forget set",
        ("runs.json", "metrics.csv", "records.jsonl"),
    ),
    "trajectory": Item(
        "figures.trajectory",
        "Losses, steps and curvature while unlearning",
        ("runs.json", "costs.csv", "steps.jsonl"),
    ),
    "cost": Item("figures.cost", "Time, memory and clipping", ("runs.json", "costs.csv")),
    "power": Item(
        "figures.power",
        "What the study could have seen",
        ("runs.json", "metrics.csv", "suite.yaml", "manifest.json"),
    ),
}

# Besides these, the report is given every <table>.csv and <figure>.svg that it shall show.
REPORT_NEEDS = (
    "runs.json",
    "metrics.csv",
    "costs.csv",
    "suite.yaml",
    "manifest.json",
    "run.json",
    "records.jsonl",
)


def tables_of(suite: dict[str, Any]) -> dict[str, Item]:
    """The tables that this resolved suite measures something for."""
    return {name: item for name, item in TABLES.items() if _measured(suite, item.only_with)}


def _measured(suite: dict[str, Any], what: str | None) -> bool:
    if what == "holdout":
        return any(task.get("holdout") or task.get("holdout_authors") for task in suite["tasks"].values())
    return what is None or bool(suite["evaluation"][what])


def find(items: dict[str, Item], name: str) -> Item:
    """The item called `name`, or a `UserError` that lists the names there are."""
    if name not in items:
        raise UserError(f"no table or figure is called {name!r}; there are: {', '.join(items)}")
    return items[name]
