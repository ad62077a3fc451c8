"""Membership inference as OpenUnlearning's TOFU evaluation does it: forget set against holdout set.

Its scores are ours (metrics/membership) with the other sign, so that they grow with the loss; its
Min-K% and Min-K%++ leave the end token out. The AUC is the same: 1 = the forget set looks known.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from pipeline_lib.metrics.membership.min_k import min_k_score
from pipeline_lib.metrics.membership.min_k_plus_plus import min_k_plus_plus_score
from pipeline_lib.metrics.membership.roc import auc
from pipeline_lib.metrics.membership.zlib_ratio import zlib_score
from pipeline_lib.peers.open_unlearning.rows import Entry, Row, entry, field, mean_loss

PERCENT = 40  # of the tokens, in its TOFU configuration


def auc_of_losses(forget: list[float], holdout: list[float]) -> float:
    """AUC of scores that grow with the loss."""
    return auc([-score for score in forget], [-score for score in holdout])


def membership_entries(
    splits: dict[str, list[Row]],
    chosen: dict[str, str] | None,
    retrained: dict[str, list[Row]] | None,
    left_out: list[str],
) -> dict[str, Entry]:
    """Attacks on the forget set against the holdout; every score grows with the loss.

    `chosen`: the splits of "members" and "nonmembers", None where the task has none.
    """
    if chosen is None or any(split not in splits for split in (chosen["members"], chosen["nonmembers"])):
        left_out.append("mia_*, privleak: the task has no holdout set, the non-members of these attacks")
        return {}
    members, others = splits[chosen["members"]], splits[chosen["nonmembers"]]
    scores: dict[str, Callable[[Row], float]] = {
        "mia_loss": lambda row: mean_loss(row, "answer"),
        "mia_zlib": lambda row: -zlib_score(mean_loss(row, "answer"), 1, field(row, "answer")),
        "mia_min_k": _min_k,
    }
    if all("token_mean" in row for row in (*members, *others)):
        moments = ("token_mean", "token_std")
        scores["mia_min_k_plus_plus"] = partial(_min_k, score=min_k_plus_plus_score, moments=moments)
    else:
        left_out.append("mia_min_k_plus_plus: the records have no means over the vocabulary (token_mean)")
    if retrained is not None:
        known = [row for split in chosen.values() for row in retrained.get(split, ())]
        base = {(row["split"], row["id"]): mean_loss(row, "answer") for row in known}
        if all((row["split"], row["id"]) in base for row in (*members, *others)):
            scores["mia_reference"] = lambda row: mean_loss(row, "answer") - base[row["split"], row["id"]]
    if "mia_reference" not in scores:
        left_out.append("mia_reference: needs --retrained with the same questions")
    return {name: _attack(members, others, score) for name, score in scores.items()}


def _attack(members: list[Row], others: list[Row], score: Callable[[Row], float]) -> Entry:
    parts = [entry(rows, lambda row: {"score": score(row)}, "score") for rows in (members, others)]
    area = auc_of_losses(*([values["score"] for values in part["value_by_index"].values()] for part in parts))
    return {"forget": parts[0], "holdout": parts[1], "auc": area, "agg_value": area}


def _min_k(row: Row, score: Callable[..., float] = min_k_score, moments: tuple[str, ...] = ()) -> float:
    """0 for an answer that is the end token alone, as in its code."""
    tokens = [-nll for nll in field(row, "token_nll")[:-1]]
    return -score(tokens, *(field(row, name)[:-1] for name in moments), PERCENT) if tokens else 0.0
