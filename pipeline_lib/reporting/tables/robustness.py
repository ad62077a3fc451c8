"""Does it stay forgotten? What each stage brings back, beyond what it brings `retrained`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from pipeline_lib.core.grouping import grouped
from pipeline_lib.metrics.recovery import p_of_one_more
from pipeline_lib.reporting import style
from pipeline_lib.reporting.headline import (
    GAP_SIGNED,
    JOINT_UTILITY,
    PLACES,
    RECOVERY,
    RECOVERY_MAX,
    RECOVERY_MAX_P,
    RECOVERY_P,
    Measure,
)
from pipeline_lib.reporting.inputs import Inputs, Row
from pipeline_lib.reporting.paired import LEVEL
from pipeline_lib.reporting.summary import Estimate, Summary
from pipeline_lib.reporting.tables.layout import (
    EMPTY,
    Cell,
    Line,
    Number,
    Table,
    estimate_cell,
    interval_notes,
)
from pipeline_lib.reporting.tables.of_metrics import NBSP, anchor_note, line_of

CAPTION = (
    "In each cell, recovery: how much better, in log-probability per token, the model after a stage knows "
    "the answers of the forget set than `retrained` does after the same stage. Above 0 something came back "
    "that the stage does not teach a model that never saw the data; below 0 the model still avoids the "
    "answers. What rises to the level of `retrained` has recovered nothing, however far it rose. Then, as "
    "2 of 3, beyond: in how many seeds the recovery is larger than 95 % of further `retrained` seeds would "
    "have after the same stage (Student's prediction for one observation); `retrained` itself is held "
    "against its other seeds. Utility is joint utility after the stage: a broken model does not recover. "
    "Before: the signed gap without any stage. Largest, where there are several stages or one was judged "
    "on its way: the largest recovery over all of them and their judged steps, held against the same "
    "maximum of each left-out `retrained` seed. The largest of more places is larger: it compares rows "
    "that went through the same stages."
)

READING = (
    "A cell: recovery with its interval over seeds; beyond, in how many seeds a further `retrained` would "
    "not have so much; joint utility after the attack. It is a level and no change: read it beside Before. "
    "`retrained` is 0 by construction. Relearning is judged by the groups that it did not teach, Before by "
    "all."
)

DRAWN = (
    "ROUGE-L recall of the best of the drawn answers in place of recovery, since drawing changes no "
    "likelihood; beyond is held against `retrained` asked alike."
)
BEST_DRAW = Measure("forget", "sampled_leakage_max")


def build(inputs: Inputs) -> list[Table]:
    """One table for each task and model; without lines where no stage was applied to `retrained` too."""
    summary = Summary(inputs)
    return [_table(summary, task, model) for task, model in inputs.studies]


def _table(summary: Summary, task: str, model: str) -> Table:
    inputs = summary.inputs
    stages = inputs.stages(task, model)
    held = {
        label: rows
        for label, rows in stages.items()
        if any(summary.by_seed(r, *RECOVERY) for r in rows.values())
    }
    notes = [anchor_note(inputs, task, model), *([READING] if held else [])]
    drawing = [label for label, rows in held.items() if all(row.draws_only for row in rows.values())]
    if drawing:
        notes.append(f"{', '.join(drawing)}: {DRAWN}")
    if alone := [label for label in stages if label not in held]:
        notes.append(
            f"Not held against `retrained`, which is not among the models of the stage: {', '.join(alone)}."
        )
    places = _places(summary, task, model)
    if len(set(places.values())) > 1:
        notes.append(f"Largest: not of equally many stages and judged steps, but {_counted(places)}.")
    estimates: list[Estimate | None] = []
    lines: list[Line] = []
    for row in inputs.rows_of(task, model) if held else ():
        if not any(row.key in rows for rows in held.values()):
            continue
        cells = [_cell("", summary, row, GAP_SIGNED, estimates)]
        for label, rows in held.items():
            if (after := rows.get(row.key)) is None:
                cells.append(EMPTY)
            elif label in drawing:
                cells.append(_best_draw(label, summary, after, rows.values(), estimates))
            else:
                cells.append(_after(label, summary, after, estimates))
        if places:
            largest = _cell("largest: ", summary, row, RECOVERY_MAX, estimates)
            cells.append(_joined(largest, _beyond("largest", summary, row, RECOVERY_MAX_P)))
        lines.append(line_of(summary, row, cells))
    heads = [f"Before{NBSP}(signed gap)"]
    heads += [f"{label}{NBSP}↓" for label in (*held, *(["Largest"] if places else []))]
    notes += interval_notes(estimates)
    return Table(task, model, tuple(heads) if lines else (), tuple(lines), tuple(filter(None, notes)))


def _after(label: str, summary: Summary, row: Row, estimates: list[Estimate | None]) -> Cell:
    recovery, utility = (_cell(f"{label}: ", summary, row, m, estimates) for m in (RECOVERY, JOINT_UTILITY))
    return _joined(
        recovery, _beyond(label, summary, row, RECOVERY_P), replace(utility, text=f"utility {utility.text}")
    )


def _best_draw(
    label: str, summary: Summary, row: Row, rows: Iterable[Row], estimates: list[Estimate | None]
) -> Cell:
    """`rows`: all those after the stage; the seeds of `retrained` are held against its other ones."""
    (anchor,) = (other for other in rows if other.key.method == "retrained")
    known = summary.by_seed(anchor, *BEST_DRAW)
    p = {
        seed: p_of_one_more(value, others)
        for seed, value in summary.by_seed(row, *BEST_DRAW).items()
        if len(others := [of for s, of in known.items() if row is not anchor or s != seed]) > 1
    }
    beyond = _counted_beyond(f"{label}: {BEST_DRAW.split}.{BEST_DRAW.metric} beyond", p)
    return _joined(_cell(f"{label}: ", summary, row, BEST_DRAW, estimates), beyond)


def _joined(first: Cell, *others: Cell) -> Cell:
    """A number with its interval, and behind it the texts of the others that hold something."""
    held = [cell for cell in others if cell.numbers]
    small = "; ".join(filter(None, (first.small, *(cell.text for cell in held))))
    return Cell(first.text, small, tuple(number for cell in (first, *held) for number in cell.numbers))


def _cell(
    prefix: str, summary: Summary, row: Row, measure: tuple[str, str], estimates: list[Estimate | None]
) -> Cell:
    split, metric = measure
    estimates.append(found := summary.estimate(row, split, metric))
    return estimate_cell(f"{prefix}{split}.{metric}", found, style.decimals(metric))


def _places(summary: Summary, task: str, model: str) -> dict[str, int]:
    """Over how many places the largest recovery of each row is; empty where it is that of one stage."""
    found = {
        style.row_label(row): int(max(by_seed.values()))
        for row in summary.inputs.rows_of(task, model)
        if (by_seed := summary.by_seed(row, *PLACES))
    }
    return found if max(found.values(), default=0) > 1 else {}


def _counted(places: dict[str, int]) -> str:
    rows = grouped((count, name) for name, count in places.items())
    return "; ".join(f"{count} ({', '.join(names)})" for count, names in sorted(rows.items(), reverse=True))


def _beyond(label: str, summary: Summary, row: Row, measure: Measure) -> Cell:
    name = f"{label}: {measure.split}.{measure.metric} below {LEVEL}"
    return _counted_beyond(name, summary.by_seed(row, *measure))


def _counted_beyond(name: str, found: Mapping[int, float]) -> Cell:
    """In how many seeds the p-value is below the level."""
    if not found:
        return EMPTY
    beyond, seeds = sum(p < LEVEL for p in found.values()), len(found)
    return Cell(f"{beyond} of {seeds}", numbers=(Number(name, beyond, seeds=seeds),))
