"""Attacks score single records; their metrics compare the forget split, as members, with held-out records.

Members and non-members are resampled by group, independently of each other. The reference attack, the gaps
and PrivLeak compare with `retrained` on the same records: without its rows they are not measured; rows of it
that lack the held-out records are an error.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from pipeline_lib.core.errors import UserError
from pipeline_lib.metrics.definition import Metric
from pipeline_lib.metrics.membership.roc import auc, auc_draws, tpr_at_fpr, tpr_draws
from pipeline_lib.metrics.needs import NONMEMBERS
from pipeline_lib.metrics.rows import Row, in_all, matched
from pipeline_lib.metrics.statistics import Interval, interval, varies
from pipeline_lib.metrics.subjects import Run

FPR = 0.01
HOLDOUT = "holdout"
FAMILY = "Membership inference"


@dataclass(frozen=True, kw_only=True)
class Attack:
    """One attack, and how its score is called and described.

    `score(row, row of retrained)`: higher = more likely a member. `fields`: what rows must have for it.
    `compares`: it looks at the row of `retrained`; without such a model there is no such attack. `formula`
    and `trap` are of the score.
    """

    name: str
    score: Callable[[Row, Row], float]
    fields: tuple[str, ...] = ()
    compares: bool = False
    label: str
    short_label: str = ""
    source: str
    formula: str
    trap: str = "0.5 is chance; far below 0.5 is a trace too: judge the gap to `retrained`"


class Sides(NamedTuple):
    """Members and non-members: their rows, those of `retrained` (None: there is none), and the resamples."""

    rows: list[list[Row]]
    reference: list[list[Row]] | None
    counts: tuple[np.ndarray, np.ndarray]


class Found(NamedTuple):
    """Scores of members (M,) and non-members (N,), the AUC with its draws (R,); the same of `retrained`."""

    scores: tuple[np.ndarray, np.ndarray]
    auc: float
    draws: np.ndarray
    retrained: Found | None = None

    @property
    def n(self) -> int:
        return sum(map(len, self.scores))


def sides(run: Run) -> Sides:
    """What both sides of the run hold."""
    roles = run.manifest["membership"]
    for role, name in roles.items():
        if name not in run.splits:
            raise UserError(
                f"membership inference takes its {role} from split {name!r}, which is not evaluated. "
                "Prepare the task again and evaluate the model again."
            )
    both = [run.splits[roles[role]] for role in ("members", "nonmembers")]
    counts = both[0].counts, both[1].counts
    if not varies(*counts):  # one side has a single group: what the other adds is not the whole error
        counts = np.ones_like(counts[0]), np.ones_like(counts[1])
    reference = (
        None
        if run.reference_rows is None
        else [matched(s.rows, run.reference_rows, s.name, f"{s.name} question") for s in both]
    )
    return Sides([side.rows for side in both], reference, counts)


def found_by(run: Run, attack: Attack) -> Found | None:
    """None where the task holds no records out, or the rows have not what the attack needs."""
    if not run.manifest.get("membership"):
        return None
    there = run.once(sides)
    mine = None if attack.compares and there.reference is None else _found(there.rows, there, attack)
    if mine is None or there.reference is None:
        return mine
    if (other := _found(there.reference, there, attack)) is None:
        raise UserError(
            f"the records of `retrained` lack what the attack `{attack.name}` needs, those of this model "
            "have it. Evaluate `retrained` again with the same settings."
        )
    return mine._replace(retrained=other)


def _found(rows: list[list[Row]], there: Sides, attack: Attack) -> Found | None:
    able = [all(in_all(side, name) for name in attack.fields) for side in rows]
    if able[0] != able[1]:
        raise UserError(
            f"only one of the splits {rows[0][0]['split']!r} and {rows[1][0]['split']!r} has what the attack "
            f"`{attack.name}` needs. Measure it on both and run the evaluation again."
        )
    if not able[0]:
        return None
    members, nonmembers = (
        np.array([attack.score(row, other) for row, other in zip(side, reference, strict=True)])
        for side, reference in zip(rows, there.reference or rows, strict=True)
    )
    pair = members, nonmembers
    return Found(pair, auc(*pair), auc_draws(*there.counts, *pair))


def _auc(attack: Attack, run: Run) -> Interval | None:
    found = run.once(found_by, attack)
    return found and interval(found.auc, found.draws, found.n)


def _tpr(attack: Attack, run: Run) -> Interval | None:
    if (found := run.once(found_by, attack)) is None:
        return None
    NONMEMBERS.demand(len(found.scores[1]), found.n)
    draws = tpr_draws(*run.once(sides).counts, *found.scores, FPR)
    return interval(tpr_at_fpr(*found.scores, FPR), draws, found.n, shifts=True)


def _gap(attack: Attack, run: Run) -> Interval | None:
    found = run.once(found_by, attack)
    other = found and found.retrained
    if found is None or other is None:
        return None
    return interval(abs(found.auc - other.auc), abs(found.draws - other.draws), found.n, shifts=True)


def metrics_of(
    attack: Attack,
    order: float,
    tables: Mapping[str, Mapping[str, int]] = MappingProxyType({}),
    only_with: tuple[str, ...] = (),
) -> list[Metric]:
    """AUC, TPR at 1 % FPR and the distance of the AUC from that of `retrained`.

    `tables`: end of a metric's name, "auc" or another, -> the tables that the metric stands in; `order`:
    place of the AUC in metrics.csv, the others follow.
    """
    short = attack.short_label or attack.label
    found = Metric(
        name=f"mia_{attack.name}_auc",
        label=f"MIA {attack.label}: AUC",
        short_label=f"{short} AUC",
        higher_is_better=None,
        higher_is_better_on_forget=None,
        range=(0, 1),
        source=attack.source,
        formula=f"P(score of a member > of a non-member) + half of the ties; score = {attack.formula}",
        trap=attack.trap,
        family=FAMILY,
        tables=tables.get("auc", {}),
        on="run",
        compute=partial(_auc, attack),
        order=order,
        only_with=(HOLDOUT, *only_with),
        compares=attack.compares,
    )
    caught = replace(
        found,
        name=f"mia_{attack.name}_tpr_at_1_fpr",
        label=f"MIA {attack.label}: TPR at 1 % FPR",
        short_label=f"{short} TPR at 1 % FPR",
        higher_is_better=False,
        higher_is_better_on_forget=False,
        source=f"{attack.source}; Carlini et al. 2022, arXiv 2112.03570",
        formula="share of members above the lowest threshold that at most 1 % of the non-members reach",
        trap="near the lowest rate that the number of non-members can show: coarse",
        tables=tables.get("tpr_at_1_fpr", {}),
        needs=(NONMEMBERS,),
        compute=partial(_tpr, attack),
        order=order + 1,
    )
    gap = replace(
        found,
        name=f"mia_{attack.name}_auc_gap",
        label=f"MIA {attack.label}: AUC gap to retrained",
        short_label=f"{short} gap to retrained",
        higher_is_better=False,
        higher_is_better_on_forget=False,
        source=f"{attack.source}; compared with `retrained` as in MUSE, arXiv 2407.06460",
        formula="|AUC - AUC of `retrained`| on the same records",
        trap="needs `retrained`; resampling noise makes the interval lie above 0",
        tables=tables.get("auc_gap", {}),
        compute=partial(_gap, attack),
        order=order + 2,
        compares=True,
    )
    return [found, caught, gap]
