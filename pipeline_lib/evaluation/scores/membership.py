"""Membership inference: the forget split as members against held-out records of the same kind.

Members and non-members are resampled by group, independently of each other. The reference attack, the gaps
and PrivLeak compare with `retrained` on the same records: without its rows (`None`) there is none of them;
rows that lack the held-out records are an error.
"""

from __future__ import annotations

import numpy as np

from pipeline_lib.errors import UserError
from pipeline_lib.evaluation.metrics.membership import ATTACKS, MIN_K_PERCENTS, PRIVLEAK_ATTACK
from pipeline_lib.evaluation.metrics.membership.grad_norm import grad_norm_score
from pipeline_lib.evaluation.metrics.membership.loss import loss_score
from pipeline_lib.evaluation.metrics.membership.min_k import min_k_score
from pipeline_lib.evaluation.metrics.membership.min_k_plus_plus import min_k_plus_plus_score
from pipeline_lib.evaluation.metrics.membership.privleak import privleak
from pipeline_lib.evaluation.metrics.membership.reference import reference_score
from pipeline_lib.evaluation.metrics.membership.roc import auc, auc_draws, tpr_at_fpr, tpr_draws
from pipeline_lib.evaluation.metrics.membership.zlib_ratio import zlib_score
from pipeline_lib.evaluation.scores.rows import (
    Row,
    answer_of,
    in_all,
    matched,
    metric_row,
    unmet,
    unmet_row,
    where,
)
from pipeline_lib.evaluation.scores.split import Split
from pipeline_lib.evaluation.statistics import Interval, interval, varies

FPR = 0.01


def score_membership(
    splits: dict[str, Split], membership: dict[str, str], reference_rows: list[Row] | None
) -> list[Row]:
    """Rows of every attack, on the members' split."""
    for role, name in membership.items():
        if name not in splits:
            raise UserError(
                f"membership inference takes its {role} from split {name!r}, which is not evaluated. "
                "Prepare the task again and evaluate the model again."
            )
    members, nonmembers = splits[membership["members"]], splits[membership["nonmembers"]]
    references = None
    if reference_rows is not None:
        references = [
            matched(members.rows, reference_rows, members.name, f"{members.name} question"),
            matched(nonmembers.rows, reference_rows, nonmembers.name, f"{nonmembers.name} question"),
        ]
    scores = _scores_of_both([members.rows, nonmembers.rows], references)
    compared = {} if references is None else _scores_of_both(references, references)
    counts = members.counts, nonmembers.counts
    if not varies(*counts):  # one side has a single group: what the other adds is not the whole error
        counts = np.ones_like(members.counts), np.ones_like(nonmembers.counts)
    n = len(members.rows) + len(nonmembers.rows)
    results = []
    for attack in (attack.name for attack in ATTACKS if attack.name in scores):
        pair = scores[attack]
        value, draws = auc(*pair), auc_draws(*counts, *pair)
        facts: dict[str, float] = {"nonmembers": len(pair[1])}
        found = {
            "auc": interval(value, draws, n),
            "tpr_at_1_fpr": interval(tpr_at_fpr(*pair, FPR), tpr_draws(*counts, *pair, FPR), n, shifts=True),
        }
        if references is not None:
            if attack not in compared:
                raise UserError(
                    f"the records of `retrained` lack what the attack `{attack}` needs, those of this model "
                    "have it. Evaluate `retrained` again with the same settings."
                )
            other, other_draws = auc(*compared[attack]), auc_draws(*counts, *compared[attack])
            facts["auc_retrained"] = other
            found["auc_gap"] = interval(abs(value - other), abs(draws - other_draws), n, shifts=True)
            if attack == PRIVLEAK_ATTACK:
                pairs = len(pair[0]) * len(pair[1])
                leak = interval(
                    float(privleak(value, other, pairs)),
                    privleak(draws, other_draws, pairs),
                    n,
                    shifts=True,
                )
                results.append(_row(members.name, "privleak", leak, facts))
        results += [
            _row(members.name, f"mia_{attack}_{what}", result, facts) for what, result in found.items()
        ]
    return results


def _row(split: str, metric: str, result: Interval, facts: dict[str, float]) -> Row:
    need = unmet(metric, "test", facts)
    if need is not None:
        return unmet_row(split, metric, need, result.n, result.n)
    return metric_row(split, metric, result)


def _scores_of_both(
    rows: list[list[Row]], references: list[list[Row]] | None
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Attack -> scores of members (M,) and of non-members (N,); only attacks that both splits allow."""
    members, nonmembers = (
        _scores(part, None if references is None else references[i]) for i, part in enumerate(rows)
    )
    if set(members) != set(nonmembers):
        missing = sorted(set(members) ^ set(nonmembers))[0]
        raise UserError(
            f"only one of the splits {rows[0][0]['split']!r} and {rows[1][0]['split']!r} has what the attack "
            f"`{missing}` needs. Measure it on both and run the evaluation again."
        )
    return {name: (members[name], nonmembers[name]) for name in members}


def _scores(rows: list[Row], reference: list[Row] | None) -> dict[str, np.ndarray]:
    """Attack -> score of each row; higher = more likely a member."""
    tokens = [[-nll for nll in row["token_nll"]] for row in rows]
    found = {
        "loss": [loss_score(*answer_of(row)) for row in rows],
        "zlib": [zlib_score(*answer_of(row), row["answer"]) for row in rows],
    }
    distributions = in_all(rows, "token_mean") and in_all(rows, "token_std")
    for percent in MIN_K_PERCENTS:
        found[f"min_k_{percent}"] = [min_k_score(values, percent) for values in tokens]
        if distributions:
            for row in rows:
                if not len(row["token_nll"]) == len(row["token_mean"]) == len(row["token_std"]):
                    raise UserError(
                        f"{where(row)} has not one `token_mean` and `token_std` for each token of its "
                        "answer: run the evaluation of this model again."
                    )
            found[f"min_k_plus_plus_{percent}"] = [
                min_k_plus_plus_score(values, row["token_mean"], row["token_std"], percent)
                for values, row in zip(tokens, rows, strict=True)
            ]
    if reference is not None:
        found["reference"] = [
            reference_score(*answer_of(row), *answer_of(other))
            for row, other in zip(rows, reference, strict=True)
        ]
    if in_all(rows, "grad_norm"):
        found["grad_norm"] = [grad_norm_score(row["grad_norm"]) for row in rows]
    return {name: np.array(values) for name, values in found.items()}
