"""Does it stay forgotten? Which rows recover more than `retrained` does, and after which stage."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from pipeline_lib.core.runs import split_stages
from pipeline_lib.metrics.recovery_max import largest, seeds_of, sweep
from pipeline_lib.reporting import style
from pipeline_lib.reporting.finding import Finding, of_seeds
from pipeline_lib.reporting.headline import RECOVERY_MAX, RECOVERY_MAX_P
from pipeline_lib.reporting.inputs import Row
from pipeline_lib.reporting.paired import LEVEL, holm
from pipeline_lib.reporting.summary import Summary

QUESTION = "Does it stay forgotten?"


def recovered(summary: Summary, task: str, model: str) -> Finding | None:
    """Of the unlearned rows that went through stages beside `retrained`; None where none did."""
    rows = attacked_rows(summary, task, model)
    if not rows:
        return None
    if (came_back := beyond(summary, rows)) is None:
        return Finding(
            f"{QUESTION} Nothing is said of it: fewer than three seeds of the retrained model went through "
            "all stages, so nothing tells what these bring back in a model that never saw the data. Name "
            "`retrained` in the `of` of each stage, and add `retrained_seeds`."
        )
    keys = (row.key.seeded(seed) for row in came_back for seed in summary.by_seed(row, *RECOVERY_MAX_P))
    held = {seeds_of(summary.inputs.studied[key].once(sweep)) for key in keys}
    told = f"{min(held)} retrained seeds, each left out in turn, tell what a further one would recover"
    back = {row: seeds for row, seeds in came_back.items() if seeds}
    if not back:
        return Finding(
            f"{QUESTION} No row was seen to recover more than the retrained model does, at its largest over "
            f"all stages and judged steps; {told}. That shows no row to be safe: another attack may bring "
            "back what these did not."
        )
    rest = (
        "" if len(back) == len(rows) else " The other rows were not seen to, which does not show them safe."
    )
    return Finding(
        f"{QUESTION} {len(back)} of {len(rows)} rows recover more than the retrained model does after the "
        f"same stage, at their largest over all stages and judged steps; {told}.{rest}",
        tuple(_case(summary, row, seeds) for row, seeds in back.items()),
    )


def attacked_rows(summary: Summary, task: str, model: str) -> list[Row]:
    """The unlearned rows that went through stages beside `retrained`, as they were before any of these."""
    return [
        row
        for row in summary.inputs.rows_of(task, model)
        if row.unlearned and not split_stages(row.key.after)[1] and summary.by_seed(row, *RECOVERY_MAX)
    ]


def beyond(summary: Summary, rows: Sequence[Row]) -> dict[Row, list[int]] | None:
    """Row -> the seeds that recover more than `retrained`, by Holm's adjustment over all seeds of all rows.

    None where too few seeds of `retrained` tell of any row what a further one would recover.
    """
    found = [(row, seed, p) for row in rows for seed, p in summary.by_seed(row, *RECOVERY_MAX_P).items()]
    result: dict[Row, list[int]] = {row: [] for row, *_ in found}
    for (row, seed, _), p in zip(found, holm([p for *_, p in found]), strict=True):
        if p is not None and p < LEVEL:
            result[row].append(seed)
    return result or None


def _case(summary: Summary, row: Row, seeds: list[int]) -> str:
    of = of_seeds(len(seeds), len(summary.by_seed(row, *RECOVERY_MAX)))
    return f"{style.row_label(row)}: in {of}, by up to {most_recovered(summary, row, seeds)}."


def most_recovered(summary: Summary, row: Row, seeds: Collection[int]) -> str:
    """The largest recovery of these seeds of a row, and where it was."""
    most = max(
        (largest(summary.inputs.studied[row.key.seeded(seed)]) for seed in seeds), key=lambda one: one.value
    )
    at = "" if most.step is None else f", step {most.step}"
    return f"{style.number(most.value)} nats per token (after {most.label}{at})"
