"""An attack scores single records; what it finds: the forget split as members against held-out records.

Members and non-members are resampled by group, independently of each other. The reference attack, the gaps
and PrivLeak compare with `retrained` on the same records: without its rows there is none of them; rows that
lack the held-out records are an error.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from pipeline_lib.core.errors import UserError
from pipeline_lib.metrics.definition import Metric
from pipeline_lib.metrics.membership.roc import auc, auc_draws, tpr_at_fpr, tpr_draws
from pipeline_lib.metrics.needs import NONMEMBERS
from pipeline_lib.metrics.rows import Row, in_all, matched
from pipeline_lib.metrics.statistics import Interval, interval, varies
from pipeline_lib.metrics.subjects import Run, Split

FPR = 0.01
HOLDOUT = "holdout"
FAMILY = "Membership inference"


@dataclass(frozen=True)
class Attack:
    """`score(row, row of retrained)`: higher = more likely a member. `fields`: what rows must have for it.

    `compares`: the score needs the row of `retrained`, which is None otherwise.
    """

    name: str
    score: Callable[[Row, Any], float]
    fields: tuple[str, ...] = ()
    compares: bool = False


class Scores(NamedTuple):
    """Scores of members (M,) and of non-members (N,)."""

    members: np.ndarray
    nonmembers: np.ndarray

    @property
    def n(self) -> int:
        return len(self.members) + len(self.nonmembers)


def sides(run: Run) -> tuple[Split, Split]:
    """Members and non-members."""
    roles = run.manifest["membership"]
    for role, name in roles.items():
        if name not in run.splits:
            raise UserError(
                f"membership inference takes its {role} from split {name!r}, which is not evaluated. "
                "Prepare the task again and evaluate the model again."
            )
    return run.splits[roles["members"]], run.splits[roles["nonmembers"]]


def _of_retrained(run: Run) -> list[list[Row]] | None:
    """The rows of `retrained` for both sides."""
    if run.reference_rows is None:
        return None
    return [matched(side.rows, run.reference_rows, side.name, f"{side.name} question") for side in sides(run)]


def scores(run: Run, attack: Attack) -> Scores | None:
    """What the attack says of the model's records; None where they have not what it needs."""
    references = run.once(_of_retrained)
    if attack.compares and references is None:
        return None
    return _scores([side.rows for side in run.once(sides)], references, attack)


def scores_of_retrained(run: Run, attack: Attack) -> Scores | None:
    """The same of the records of `retrained`; None where there is no such model."""
    references = run.once(_of_retrained)
    if references is None:
        return None
    found = _scores(references, references, attack)
    if found is None:
        raise UserError(
            f"the records of `retrained` lack what the attack `{attack.name}` needs, those of this model "
            "have it. Evaluate `retrained` again with the same settings."
        )
    return found


def _scores(rows: list[list[Row]], references: list[list[Row]] | None, attack: Attack) -> Scores | None:
    able = [all(in_all(side, name) for name in attack.fields) for side in rows]
    if able[0] != able[1]:
        raise UserError(
            f"only one of the splits {rows[0][0]['split']!r} and {rows[1][0]['split']!r} has what the attack "
            f"`{attack.name}` needs. Measure it on both and run the evaluation again."
        )
    if not able[0]:
        return None
    others = references or [[{}] * len(side) for side in rows]
    return Scores(
        *(
            np.array([attack.score(row, other) for row, other in zip(side, there, strict=True)])
            for side, there in zip(rows, others, strict=True)
        )
    )


def _counts(run: Run) -> tuple[np.ndarray, np.ndarray]:
    members, nonmembers = (side.counts for side in run.once(sides))
    if varies(members, nonmembers):
        return members, nonmembers
    # one side has a single group: what the other adds is not the whole error
    return np.ones_like(members), np.ones_like(nonmembers)


class Found(NamedTuple):
    """AUC of the model and of `retrained` (None: there is none), each with its draws (R,)."""

    scores: Scores
    auc: float
    draws: np.ndarray
    auc_retrained: float | None = None
    draws_retrained: np.ndarray | None = None


def found_by(run: Run, attack: Attack) -> Found | None:
    """None where the task holds no records out, or the rows have not what the attack needs."""
    if not run.manifest.get("membership"):
        return None
    mine = scores(run, attack)
    if mine is None:
        return None
    counts = run.once(_counts)
    found = Found(mine, auc(*mine), auc_draws(*counts, *mine))
    other = scores_of_retrained(run, attack)
    if other is None:
        return found
    return found._replace(auc_retrained=auc(*other), draws_retrained=auc_draws(*counts, *other))


def _auc(attack: Attack, run: Run) -> Interval | None:
    found = run.once(found_by, attack)
    return None if found is None else interval(found.auc, found.draws, found.scores.n)


def _tpr(attack: Attack, run: Run) -> Interval | None:
    found = run.once(found_by, attack)
    if found is None:
        return None
    pair = found.scores
    NONMEMBERS.demand(len(pair.nonmembers), pair.n)
    draws = tpr_draws(*run.once(_counts), *pair, FPR)
    return interval(tpr_at_fpr(*pair, FPR), draws, pair.n, shifts=True)


def _gap(attack: Attack, run: Run) -> Interval | None:
    found = run.once(found_by, attack)
    if found is None or found.draws_retrained is None or found.auc_retrained is None:
        return None
    draws = abs(found.draws - found.draws_retrained)
    return interval(abs(found.auc - found.auc_retrained), draws, found.scores.n, shifts=True)


def metrics_of(
    attack: Attack,
    *,
    label: str,
    source: str,
    formula: str,
    order: float,
    trap: str = "0.5 is chance; far below 0.5 is a trace too: judge the gap to `retrained`",
    tables: Mapping[str, int] | None = None,
    only_with: tuple[str, ...] = (),
) -> list[Metric]:
    """AUC, TPR at 1 % FPR and the distance of the AUC from that of `retrained`.

    `formula` and `trap` are of the score; `tables`: which of the three stand in the table, "auc" or another
    end of a name -> place of its column; `order`: place of the AUC in metrics.csv, the others follow.
    """
    places = tables or {}
    short = label[:1].upper() + label[1:] if attack.compares else label

    def metric(end: str, compute: Callable[[Attack, Run], Interval | None], **words: Any) -> Metric:
        return Metric(
            name=f"mia_{attack.name}_{end}",
            family=FAMILY,
            range=(0, 1),
            tables={"membership": places[end]} if end in places else {},
            on="run",
            compute=partial(compute, attack),
            only_with=(HOLDOUT, *only_with),
            **words,
        )

    return [
        metric(
            "auc",
            _auc,
            label=f"MIA {label}: AUC",
            short_label=f"{short} AUC",
            higher_is_better=None,
            higher_is_better_on_forget=None,
            source=source,
            formula=f"P(score of a member > of a non-member) + half of the ties; score = {formula}",
            trap=trap,
            order=order,
        ),
        metric(
            "tpr_at_1_fpr",
            _tpr,
            label=f"MIA {label}: TPR at 1 % FPR",
            short_label=f"{short} TPR at 1 % FPR",
            higher_is_better=False,
            higher_is_better_on_forget=False,
            source=f"{source}; Carlini et al. 2022, arXiv 2112.03570",
            formula="share of members above the lowest threshold that at most 1 % of the non-members reach",
            trap="near the lowest rate that the number of non-members can show: coarse",
            needs=(NONMEMBERS,),
            order=order + 1,
        ),
        metric(
            "auc_gap",
            _gap,
            label=f"MIA {label}: AUC gap to retrained",
            short_label=f"{short} gap to retrained",
            higher_is_better=False,
            higher_is_better_on_forget=False,
            source=f"{source}; compared with `retrained` as in MUSE, arXiv 2407.06460",
            formula="|AUC - AUC of `retrained`| on the same records",
            trap="needs `retrained`; resampling noise makes the interval lie above 0",
            order=order + 2,
        ),
    ]
