"""Every table and figure by name, and the files each one reads. A new one is one file and one line here.

Nothing heavy is imported until an item is made, so that a Snakefile can ask what an item needs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from types import ModuleType
from typing import Any

from pipeline_lib.core.errors import UserError


@dataclass(frozen=True)
class Item:
    """`module` has CAPTION and `build` (a table) or `draw` (a figure).

    `needs` are names of files; a file's folder says which run it belongs to (inputs.py).
    `only_with` names what a suite must have for it: a block of `evaluation`, "holdout", "stages", or
    "judged_stages", of which one is judged on its way. It shows the tasks whose class has this `shown_as`;
    None: every task.
    """

    module: str
    title: str
    needs: tuple[str, ...]
    only_with: str | None = None
    shown_as: str | None = None
    paths: bool = False  # reads the logs of runs too, where the suite judges these on their way

    def load(self) -> ModuleType:
        return import_module(f"pipeline_lib.reporting.{self.module}")


TABLES = {
    "main": Item(
        "tables.main", "Forgetting and utility", ("runs.json", "metrics.csv", "scores.csv", "manifest.json")
    ),
    "likeness": Item(
        "tables.likeness",
        "Like the retrained model?",
        ("runs.json", "metrics.csv", "scores.csv", "manifest.json"),
    ),
    "comparisons": Item(
        "tables.comparisons",
        "Paired comparisons",
        ("runs.json", "metrics.csv", "suite.yaml", "manifest.json"),
    ),
    "mixed_effects": Item(
        "tables.mixed_effects",
        "The gap for further forget groups",
        ("runs.json", "metrics.csv", "scores.csv", "suite.yaml", "manifest.json"),
        paths=True,
    ),
    "robustness": Item(
        "tables.robustness",
        "Does it stay forgotten?",
        ("runs.json", "metrics.csv", "manifest.json"),
        only_with="stages",
    ),
    "joint_utility": Item(
        "tables.joint_utility",
        "The parts of joint utility",
        ("runs.json", "metrics.csv", "scores.csv", "manifest.json"),
    ),
    "utility": Item(
        "tables.utility", "The parts of model utility", ("runs.json", "metrics.csv", "manifest.json")
    ),
    "collapse": Item(
        "tables.collapse", "Forgetting or collapse: what the answers look like", ("runs.json", "metrics.csv")
    ),
    "extraction": Item(
        "tables.extraction",
        "Recited texts",
        ("runs.json", "metrics.csv", "manifest.json"),
        shown_as="texts",
    ),
    "preference": Item(
        "tables.preference", "Unsafe and safe answers", ("runs.json", "metrics.csv"), shown_as="answers"
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
    "inside": Item("tables.inside", "Inside the model", ("runs.json", "metrics.csv"), only_with="inside"),
    "cost": Item("tables.cost", "Cost", ("runs.json", "costs.csv")),
    "settings": Item("tables.settings", "Settings of every row", ("runs.json", "run.json")),
    "tuning": Item("tables.tuning", "How the settings were found", ("runs.json", "run.json")),
}

FIGURES = {
    "forest": Item(
        "figures.forest",
        "The comparisons at a glance",
        ("runs.json", "metrics.csv", "suite.yaml", "manifest.json"),
    ),
    "tradeoff": Item(
        "figures.tradeoff",
        "Forgetting against utility",
        ("runs.json", "metrics.csv", "scores.csv", "manifest.json"),
    ),
    "fronts": Item(
        "figures.fronts",
        "Fronts of trained models",
        ("runs.json", "metrics.csv", "scores.csv", "steps.jsonl", "suite.yaml", "manifest.json"),
        only_with="trajectory",
    ),
    "recovery": Item(
        "figures.recovery",
        "What comes back on the way of a stage",
        ("runs.json", "metrics.csv", "scores.csv", "steps.jsonl", "suite.yaml", "manifest.json"),
        only_with="judged_stages",
    ),
    "distance": Item(
        "figures.distance", "Distance from the retrained model, row by row", ("runs.json", "metrics.csv")
    ),
    "truth_ratio": Item(
        "figures.truth_ratio",
        "Truth ratios or likelihoods of the forget set",
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

# Items of the paper, each made only when asked for by name, from the runs of its own tasks alone.
PAPER_TABLES = {
    "table_tofu": Item(
        "paper.tofu",
        "Unlearning fictitious authors",
        ("runs.json", "metrics.csv", "manifest.json"),
        shown_as="authors",
    ),
    "table_copyright": Item(
        "paper.copyright",
        "Removing copyrighted text",
        ("runs.json", "metrics.csv", "manifest.json"),
        shown_as="texts",
    ),
    "table_detox": Item(
        "paper.detox",
        "Unlearning toxic answers",
        ("runs.json", "metrics.csv", "manifest.json", "suite.yaml"),
        shown_as="answers",
    ),
    "table_time": Item("paper.time", "Time and memory of unlearning", ("runs.json", "costs.csv")),
}
PAPER_FIGURES = {
    "figure_highlight": Item(
        "paper.highlight",
        "First against second order: forget quality and utility",
        ("runs.json", "metrics.csv", "manifest.json"),
        shown_as="authors",
    ),
}
ALL_TABLES = TABLES | PAPER_TABLES
ALL_FIGURES = FIGURES | PAPER_FIGURES

# Besides these, the report is given the logs of runs that are judged on their way, and every <table>.csv and
# <figure>.svg that it shall show.
REPORT_NEEDS = (
    "runs.json",
    "metrics.csv",
    "scores.csv",
    "costs.csv",
    "suite.yaml",
    "manifest.json",
    "run.json",
    "records.jsonl",
)


def measured_by(suite: Any, items: Mapping[str, Item]) -> dict[str, Item]:
    """The tables or figures that this suite (a `study.Suite`) measures something for."""
    return {
        name: item
        for name, item in items.items()
        if tasks_of(suite, item) and _measured(suite, item.only_with)
    }


def tasks_of(suite: Any, item: Item) -> list[str]:
    """The tasks of this suite that the item shows."""
    return [name for name, task in suite.tasks.items() if item.shown_as in (None, task.shown_as)]


def _measured(suite: Any, what: str | None) -> bool:
    if what == "stages":
        return bool(suite.stages)
    if what == "samples" and any(getattr(stage, what, None) for stage in suite.stages.values()):
        return True  # drawn under attack
    if what == "judged_stages":
        return any(stage.judged() is not None for stage in suite.stages.values())
    if what == "holdout":
        return any(what in task.evaluated_splits() for task in suite.tasks.values())
    return what is None or any(getattr(suite.evaluation_of(task), what) for task in suite.tasks)


def find(items: dict[str, Item], name: str) -> Item:
    """The item called `name`, or a `UserError` that lists the names there are."""
    if name not in items:
        raise UserError(f"no table or figure is called {name!r}; there are: {', '.join(items)}")
    return items[name]
