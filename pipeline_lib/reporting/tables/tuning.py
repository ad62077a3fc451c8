"""How the settings of every row were found: the budget, what was tried, what was chosen and by which rule."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline_lib.core.redaction import visible
from pipeline_lib.core.runs import LOST
from pipeline_lib.reporting import style
from pipeline_lib.reporting.inputs import Inputs, Row
from pipeline_lib.reporting.tables.layout import EMPTY, Cell, Line, Number, Table
from pipeline_lib.reporting.tables.settings import budget_cell, runs_of, shared, value_text

CAPTION = (
    "How the settings of every row were found. Where they were tuned, each row had the same number of trials "
    "on the same tuning seeds, which no other table or figure contains. Chosen is the trial of the "
    "smallest gap to `retrained` on its path at the utility of comparison; for runs that are judged by "
    "their last step alone, of the smallest gap (where a task has no `retrained`: the lowest probability of "
    "the forget answers) among those whose joint utility of likelihoods stayed above the bound. What was "
    "done to a model afterwards was not tuned: its settings are in the table `settings`."
)
COLUMNS = ("Budget", "Tried", "Chosen", "Forget set", "Joint utility", "Forget groups", "Read with care")
HAND_NOTE = (
    "This study has no block `tune`: all settings were set by hand, so that a difference between rows may be "
    "one of settings that were found with more or less care."
)
REPORTED_NOTE = (
    "The settings were chosen on the forget groups that are reported, so that every row may look better than "
    "on groups on which nothing was chosen; `tune.forget_draw` chooses on others."
)


def build(inputs: Inputs) -> list[Table]:
    """One table for each task and model; what no unlearning run made was not tuned and has no row."""
    tables = []
    for task, model in inputs.studies:
        rows = [row for row in inputs.rows_of(task, model) if row.unlearned]
        runs = {row.key: runs_of(inputs, row, "tuning") for row in rows}
        rows = [row for row in rows if not any(run.get("stage") for run in runs[row.key])]
        tuned = {row.key: shared(row, runs[row.key], "tuned") for row in rows}
        by_hand = not any(tuned.values())
        lines = []
        for row in rows:
            cells = (budget_cell(tuned[row.key]), *([] if by_hand else _cells(tuned[row.key])))
            lost = sum(run.get("status") in LOST for run in runs[row.key])
            lines.append(Line(row, str(len(row.seeds)), lost, cells))
        columns = COLUMNS[:1] if by_hand else COLUMNS
        notes = (HAND_NOTE,) if by_hand else _notes(rows, tuned)
        tables.append(Table(task, model, columns, tuple(lines), notes, numeric=False))
    return tables


def _cells(tuned: dict[str, Any] | None) -> list[Cell]:
    """All columns but the budget."""
    if tuned is None:
        return [EMPTY] * (len(COLUMNS) - 1)
    chosen = _flat(tuned)
    said = ", ".join(f"{name} {value_text(value)}" for name, value in chosen.items())
    quantity, left = tuned["select"]["forget"], tuned["forget"]
    return [
        Cell("; ".join(_range_text(name, tried) for name, tried in _flat(tuned["ranges"]).items())),
        Cell(
            visible(f"trial {tuned['trial']}: {said}"),
            numbers=(
                Number("tuning.trial", tuned["trial"]),
                *(Number(f"tuning.{name}", value) for name, value in chosen.items()),
            ),
        ),
        EMPTY
        if left is None
        else Cell(
            f"{style.metric_label(quantity)} {style.number(left)}",
            numbers=(Number(f"tuning.forget.{quantity}", left),),
        ),
        _utility(tuned),
        _draw(tuned["forget_draw"]),
        _warnings(tuned),
    ]


def _flat(parts: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of both parts of a run in one level; those of the objective are named as such."""
    return {**parts["optimizer"], **{f"objective {k}": v for k, v in parts["objective"].items()}}


def _range_text(name: str, tried: Any) -> str:
    if isinstance(tried, list):
        return visible(f"{name} {value_text(tried)}")
    return f"{name} {tried['low']:g} to {tried['high']:g} ({tried['scale']})"


def _utility(tuned: dict[str, Any]) -> Cell:
    """The chosen trial's mean over tuning seeds at its end, against the least that the rule asks for."""
    if (value := tuned["joint_utility"]) is None:
        return EMPTY
    least, met = style.number(tuned["least"]), "" if tuned["bound_met"] else " by no trial"
    kept = f"chosen at {least}" if "level" in tuned["select"] else f"bound {least} kept{met}"
    return Cell(
        f"{style.number(value)}, {kept}",
        numbers=(
            Number("tuning.joint_utility", value),
            Number("tuning.bound", tuned["least"]),
            Number("tuning.bound_met", int(tuned["bound_met"])),
        ),
    )


def _draw(draw: int | None) -> Cell:
    """The forget groups on which the choice was made."""
    said = "those that are reported" if draw is None else f"draw {draw}, not reported"
    return Cell(said, numbers=(Number("tuning.forget_draw", "reported" if draw is None else draw),))


def _warnings(tuned: dict[str, Any]) -> Cell:
    """Chosen values at the end of what was tried, and trials that were lost."""
    edges = _flat(tuned["at_edge"])
    said = [f"{name} is the {end} tried: the best may lie beyond" for name, end in edges.items()]
    trials, lost = tuned["budget"]["trials"], tuned["diverged"]
    if lost:
        said.append(
            f"{tuned['status']}, so the first was run"
            if lost == trials
            else f"{lost} of {trials} trials diverged"
        )
    numbers = [Number(f"tuning.at_edge.{name}", end) for name, end in edges.items()]
    return Cell("; ".join(said) or "–", numbers=(*numbers, Number("tuning.diverged", lost)))


def _notes(rows: list[Row], tuned: Mapping[Any, dict[str, Any] | None]) -> tuple[str, ...]:
    """The rules of selection in a sentence each, and on which forget groups they looked."""
    known = [settings for row in rows if (settings := tuned[row.key])]
    rules = dict.fromkeys(_rule(settings["select"]) for settings in known)
    return (*rules, REPORTED_NOTE) if known[0]["forget_draw"] is None else tuple(rules)


def _rule(select: Mapping[str, Any]) -> str:
    if "level" in select:
        return (
            "Chosen: the smallest mean over tuning seeds of the least gap to their `retrained` models on the "
            f"path of the trial at a joint utility of likelihoods of {select['level']:g}."
        )
    what = {
        "gap": "the smallest gap to the `retrained` models of the tuning seeds",
        "probability": "the lowest probability of the forget answers",
    }[select["forget"]]
    return (
        f"Chosen: {what}, with at most {100 * select['utility_within']:g} % less joint utility of "
        "likelihoods than `original` on every tuning seed; if no trial kept that, the one with the most."
    )
