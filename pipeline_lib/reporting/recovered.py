"""Does it stay forgotten? Which rows recover more than `retrained` does, and after which stage."""

from __future__ import annotations

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
    """Of the unlearned rows that went through stages beside `retrained`; None where none did.

    A row recovers if one of its seeds does, by Holm's adjustment over all seeds of all rows.
    """
    rows = [row for row in summary.inputs.rows_of(task, model) if _judged(summary, row)]
    if not rows:
        return None
    found = [(row, seed, p) for row in rows for seed, p in summary.by_seed(row, *RECOVERY_MAX_P).items()]
    if not found:
        return Finding(
            f"{QUESTION} Nothing is said of it: fewer than three seeds of the retrained model went through "
            "all stages, so nothing tells what these bring back in a model that never saw the data. Name "
            "`retrained` in the `of` of each stage, and add `retrained_seeds`."
        )
    beyond: dict[Row, list[int]] = {}
    for (row, seed, _), p in zip(found, holm([p for *_, p in found]), strict=True):
        if p is not None and p < LEVEL:
            beyond.setdefault(row, []).append(seed)
    held = {seeds_of(summary.inputs.studied[row.key.seeded(seed)].once(sweep)) for row, seed, _ in found}
    told = f"{min(held)} retrained seeds, each left out in turn, tell what a further one would recover"
    if not beyond:
        return Finding(
            f"{QUESTION} No row was seen to recover more than the retrained model does, at its largest over "
            f"all stages and judged steps; {told}. That shows no row to be safe: another attack may bring "
            "back what these did not."
        )
    rest = (
        "" if len(beyond) == len(rows) else " The other rows were not seen to, which does not show them safe."
    )
    return Finding(
        f"{QUESTION} {len(beyond)} of {len(rows)} rows recover more than the retrained model does after the "
        f"same stage, at their largest over all stages and judged steps; {told}.{rest}",
        tuple(_case(summary, row, seeds) for row, seeds in beyond.items()),
    )


def _judged(summary: Summary, row: Row) -> bool:
    before_stages = row.unlearned and not split_stages(row.key.after)[1]
    return before_stages and bool(summary.by_seed(row, *RECOVERY_MAX))


def _case(summary: Summary, row: Row, seeds: list[int]) -> str:
    """The row with the largest recovery among these seeds, and where it was."""
    most = max(
        (largest(summary.inputs.studied[row.key.seeded(seed)]) for seed in seeds), key=lambda one: one.value
    )
    at = "" if most.step is None else f", step {most.step}"
    of = of_seeds(len(seeds), len(summary.by_seed(row, *RECOVERY_MAX)))
    return (
        f"{style.row_label(row)}: in {of}, by up to {style.number(most.value)} nats per token "
        f"(after {most.label}{at})."
    )
