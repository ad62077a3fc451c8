"""The exact settings behind every row, as the runs themselves recorded them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pipeline_lib.core.errors import UserError
from pipeline_lib.core.redaction import visible
from pipeline_lib.core.runs import LOST
from pipeline_lib.reporting.inputs import Inputs, Row
from pipeline_lib.reporting.tables.layout import EMPTY, Cell, Line, Number, Table

CAPTION = (
    "Settings of every row, as its run.json has them. All seeds of a row have the same. Where settings were "
    "tuned, the budget says with how many trials; the table `tuning` says how they were chosen. A model that "
    "a stage made has the settings of that stage; the models that it was made of (`of`) have rows of their "
    "own."
)
PARTS = [
    ("objective", "Objective"),
    ("optimizer_settings", "Optimiser"),
    ("training", "Training"),
    ("precision", "Precision"),
    ("stage", "Stage"),
]
BY_HAND = "set by hand"


def build(inputs: Inputs) -> list[Table]:
    """One table for each task and model."""
    tables = []
    for task, model in inputs.studies:
        # A run may keep its precision within `training`.
        parts = [part for part in PARTS if any(run.get(part[0]) for run in inputs.run_files.values())]
        tuned = any(run.get("tuned") for run in inputs.run_files.values())
        columns = [*(label for _, label in parts), *(["Budget"] if tuned else [])]
        lines = [
            _line(inputs, row, [name for name, _ in parts], tuned) for row in inputs.rows_of(task, model)
        ]
        tables.append(Table(task, model, tuple(columns), tuple(lines), numeric=False))
    return tables


def _line(inputs: Inputs, row: Row, parts: list[str], tuned: bool) -> Line:
    runs = runs_of(inputs, row, "settings")
    untrained = any(run.get("stage") or run.get("weights_in") for run in runs)
    cells = []
    for part in parts:
        # The run.json of a stage or a base has the kind "none" of what it does not use, for programs that
        # expect one.
        flat = {} if untrained and part != "stage" else _flat(shared(row, runs, part))
        text = ", ".join(f"{name} {value_text(value)}" for name, value in flat.items())
        numbers = tuple(Number(f"{part}.{name}", value, seeds=len(runs)) for name, value in flat.items())
        cells.append(Cell(visible(text) or "–", numbers=numbers))
    if tuned:
        cells.append(EMPTY if row.anchor or untrained else budget_cell(shared(row, runs, "tuned")))
    lost = [run for run in runs if run.get("status") in LOST]
    return Line(row, str(len(runs)), len(lost), tuple(cells))


def runs_of(inputs: Inputs, row: Row, table: str) -> list[dict[str, Any]]:
    """run.json of every seed of a row."""
    runs = [inputs.run_files.get(row.key.seeded(seed)) for seed in row.seeds]
    for seed, run in zip(row.seeds, runs, strict=True):
        if run is None:
            raise UserError(f"the table {table} has no run.json of {row.key}, seed {seed}")
    return [run for run in runs if run is not None]


def shared(row: Row, runs: Sequence[dict[str, Any]], part: str) -> Any:
    """What all seeds of a row have under `part`."""
    found = [run.get(part) for run in runs]
    if any(settings != found[0] for settings in found):
        raise UserError(
            f"{row.key}: its seeds were run with different settings of `{part}`. Run the "
            "older ones again: give the same snakemake command with `--forcerun unlearn`."
        )
    return found[0]


def budget_cell(tuned: dict[str, Any] | None) -> Cell:
    """How many settings were tried, and on which seeds; `tuned` is that of run.json."""
    if tuned is None:
        return Cell(BY_HAND, numbers=(Number("tuning.trials", 0),))
    trials, rounds, seeds = (tuned["budget"][name] for name in ("trials", "rounds", "seeds"))
    places = f"seed {seeds[0]}" if len(seeds) == 1 else f"each of the seeds {', '.join(map(str, seeds))}"
    return Cell(
        f"{trials} {'trial' if trials == 1 else 'trials'}{f' in {rounds} rounds' * (rounds > 1)} on {places}",
        numbers=(
            Number("tuning.trials", trials),
            Number("tuning.rounds", rounds),
            Number("tuning.seeds", " ".join(map(str, seeds))),
        ),
    )


def _flat(settings: Any, prefix: str = "") -> dict[str, Any]:
    """Nested settings as one level with dotted names."""
    if isinstance(settings, dict):
        return {k: v for name, value in settings.items() for k, v in _flat(value, f"{prefix}{name}.").items()}
    return {} if settings is None and not prefix else {prefix.rstrip("."): settings}


def value_text(value: Any) -> str:
    """A setting's value for people."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list):
        return "(" + ", ".join(map(value_text, value)) + ")"
    return "none" if value is None else str(value)
