"""The compared differences in the gap once more, so that they hold for further seeds and forget groups."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from pipeline_lib.metrics.gap import differences
from pipeline_lib.metrics.path import front_of
from pipeline_lib.metrics.study import Studied
from pipeline_lib.reporting import style
from pipeline_lib.reporting.headline import FRONT, GAP
from pipeline_lib.reporting.inputs import Inputs
from pipeline_lib.reporting.mixed_effects import MixedEffects
from pipeline_lib.reporting.paired import LEVEL, holm
from pipeline_lib.reporting.summary import Summary
from pipeline_lib.reporting.tables.comparisons import Comparison, family, p_cell
from pipeline_lib.reporting.tables.layout import EMPTY, Cell, Line, Number, Table
from pipeline_lib.reporting.tables.of_metrics import anchor_note

CAPTION = (
    "The comparisons of the gap to `retrained` as they hold for further seeds and further forget groups; the "
    "table of paired comparisons is about further seeds on the same groups. Model: the difference of "
    "the two rows in one question after one seed is a mean, and random effects of the seed, of the forget "
    "group, of both together, and of the question; what the rows share cancels. p, interval and degrees of "
    "freedom (df, Satterthwaite's) are of that mean, p (Holm) and the intervals for all pairs of the table "
    "at once. A difference that is claimed in the paired comparisons and has p (Holm) below 0.05 here holds "
    "for further groups of the kind too; else it was shown for these groups. SD: the estimated standard "
    "deviation of the difference between seeds, between groups and between questions of a group, in nats per "
    "token; 0.000 where the estimate of the variance is not above 0. The `retrained` models are taken as "
    "they are. Effects are taken as normal, which a handful of seeds and groups cannot confirm."
)
FEW = 10  # groups; docs/inference.md has the measured coverage
_HEADS = ("Against", "Difference in gap", "df", "p", "p (Holm)", "p (Holm), these groups")
_SPREADS = ("SD of seeds", "SD of groups", "SD of questions")


@dataclass(frozen=True)
class Wider:
    """One comparison of the gap for further groups: `fit`, or `why` there is none and what would give one."""

    entry: Comparison
    seeds: int
    groups: int
    fit: MixedEffects | None = None
    why: str = ""
    p_holm: float | None = None

    @property
    def claimed(self) -> bool:
        """Of further groups nothing is claimed that is not claimed of these."""
        return self.entry.claimed and self.p_holm is not None and self.p_holm < LEVEL

    @property
    def verdict(self) -> str:
        """What may be said of further groups in words."""
        if self.fit is None or not self.entry.claimed:
            return self.why or self.entry.verdict
        of = "for further groups too" if self.claimed else "for these groups, not shown for further ones"
        return f"{self.entry.verdict}: {of}"


def wider(summary: Summary, entries: Sequence[Comparison]) -> list[Wider]:
    """The comparisons of the gap among `entries`, a family of their own."""
    gaps = (GAP.metric, FRONT.metric)
    deciding = [e for e in entries if e.quantity.decides and e.quantity.metric in gaps]
    found = [_wider(summary, entry) for entry in deciding]
    adjusted = holm([one.fit.p if one.fit else None for one in found])
    return [replace(one, p_holm=p) for one, p in zip(found, adjusted, strict=True)]


def _wider(summary: Summary, entry: Comparison) -> Wider:
    measure = entry.quantity.split, entry.quantity.metric
    measured = [summary.by_seed(row, *measure) for row in entry.pair]
    seeds = [seed for seed in measured[0] if seed in measured[1]]
    lost = " beside runs without a model" if any(map(summary.diverged, entry.pair)) else ""
    if why := _untold(summary, entry, seeds, lost):
        return Wider(entry, len(seeds), 0, why=why)
    one, other = (
        np.array([_distances(summary.inputs.studied[row.key.seeded(seed)], entry) for seed in seeds])
        for row in entry.pair
    )
    names = summary.inputs.studied[entry.row.key.seeded(seeds[0])].forget.groups
    groups = len(set(names))
    if len(seeds) == 1:
        return Wider(entry, 1, groups, why=f"not tested: 1 shared seed{lost}; add `seeds`")
    if groups == 1:
        return Wider(entry, len(seeds), 1, why="not tested: 1 forget group; forget more groups")
    fit = MixedEffects.of(one - other, names)
    if fit.p is None:
        return Wider(entry, len(seeds), groups, fit, "not tested: alike in every seed and group")
    return Wider(entry, len(seeds), groups, fit)


def _untold(summary: Summary, entry: Comparison, seeds: Sequence[int], lost: str) -> str:
    """Why nothing is known question by question, and what would help; empty where it is."""
    if entry.survivors:
        return entry.verdict
    if entry.quantity.metric != GAP.metric and entry.row.key.task not in summary.inputs.paths.levels:
        return "not tested: the logs of the runs (steps.jsonl) are not here"
    return "" if seeds else f"not tested: no shared seed{lost}; give both rows the same seeds"


def _distances(study: Studied, entry: Comparison) -> np.ndarray:
    """Distance of every forget question to `retrained`, (N,), whose mean over groups is the gap compared."""
    if entry.quantity.metric == GAP.metric:
        return np.abs(differences(study))
    point = study.once(front_of)
    assert point is not None  # its run has a value
    return point.distances


def build(inputs: Inputs) -> list[Table]:
    """One table for each task and model."""
    summary = Summary(inputs)
    return [_table(summary, task, model) for task, model in inputs.studies]


def _table(summary: Summary, task: str, model: str) -> Table:
    if not summary.has(task, model, *GAP):
        note = anchor_note(summary.inputs, task, model) or "The gap to `retrained` was not measured."
        return Table(task, model, (), (), (note,))
    found = wider(summary, family(summary, task, model))
    if not found:
        note = "No method of this study runs with both rows of a comparison."
        return Table(task, model, (), (), (note,))
    heads = (*_HEADS, *_SPREADS, "What can be said")
    lines = tuple(_line(summary, one, len(found)) for one in found)
    return Table(task, model, heads, lines, tuple(_notes(found)))


def _line(summary: Summary, one: Wider, comparisons: int) -> Line:
    entry, fit, seeds = one.entry, one.fit, one.seeds
    name = (
        f"{entry.quantity.split}.{entry.quantity.metric} minus {entry.against.key.optimizer}: mixed effects"
    )
    cells = [Cell(style.row_label(entry.against)), *[EMPTY] * 4]
    spreads = [EMPTY] * len(_SPREADS)
    if fit is not None:
        n = entry.difference.n if entry.difference else None
        low, high = fit.interval(comparisons) or (None, None)
        kind = "none" if low is None else "mixed"
        number = Number(name, fit.mean, low, high, seeds, n, kind)
        cells[1] = Cell(style.number(fit.mean), style.interval(low, high) or "– (alike)", numbers=(number,))
        if fit.p is not None:
            df = Number(f"{name}: df", fit.freedom, seeds=seeds, n=n)
            cells[2] = Cell(style.number(fit.freedom, 1), numbers=(df,))
            cells[3] = p_cell(f"{name}: p", fit.p, seeds, n)
            cells[4] = p_cell(f"{name}: p (Holm)", one.p_holm, seeds, n)
        v = fit.variances
        spreads = [
            Cell(style.number(size**0.5), numbers=(Number(f"{name}: {head}", size**0.5, seeds=seeds, n=n),))
            for head, size in zip(_SPREADS, (v.seeds, v.groups, v.questions), strict=True)
        ]
        if fit.size == 1:  # a question is its group
            spreads[-1] = EMPTY
    d = entry.difference
    cells += [p_cell(f"{name}: p (Holm), these groups", d.p_holm if d else None, seeds, d.n if d else None)]
    of = f"{seeds} shared, {one.groups} group{'' if one.groups == 1 else 's'}"
    diverged = len(summary.diverged(entry.row))
    return Line(entry.row, of, diverged, (*cells, *spreads, Cell(one.verdict)), entry.question)


def _notes(found: Sequence[Wider]) -> Iterator[str]:
    few = min((one.groups for one in found if one.groups), default=FEW)
    if few < FEW:
        yield (
            f"{few} forget group{'s' if few > 1 else ''}: a guess at how further ones differ rests on "
            f"{few - 1} degree{'' if few == 2 else 's'} of freedom, so that the intervals are wide. "
            "docs/inference.md has how often they held the truth in simulated studies."
        )
    if not found[0].entry.quantity.decides:
        yield (
            "Runs were judged on their way, so that the least gap of their paths decides: what stands here "
            "is secondary."
        )
