"""AUC and TPR at a low FPR, of scores where higher = more likely a member; for all resamples at once.

Sources: AUC as the probability that a member scores above a non-member (Hanley and McNeil 1982; equal to
scikit-learn's roc_auc_score, ties count one half); TPR at low FPR from Carlini et al. 2022 (arXiv
2112.03570): what an attacker can claim with confidence.
Formulas: AUC = P(member > non-member) + P(equal) / 2. TPR at F = share of members at or above the lowest
threshold that at most a share F of the non-members reach; nothing is interpolated, and members that tie with
a non-member count only if that non-member is allowed too.
Range: 0 to 1. AUC 0.5 is chance. Direction: neither; an AUC far below 0.5 is a trace of unlearning as well.
Needs: TPR at F asks for 1 / F non-members or more (100 at 1 %). With fewer no false positive at all is
allowed: a TPR at 0 % under another name, ruled by one record. It is not measured then (../needs.py).
Traps: members and non-members must be of one kind: against another domain the AUC measures the domain.

Shapes: R resamples, M members, N non-members. Counts say how often a resample holds each row.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike


def auc(members: ArrayLike, nonmembers: ArrayLike) -> float:
    """AUC of scores (M,) against (N,)."""
    a, b = _scores(members, nonmembers)
    return float(auc_draws(np.ones((1, len(a))), np.ones((1, len(b))), a, b)[0])


def auc_draws(
    member_counts: np.ndarray, nonmember_counts: np.ndarray, members: ArrayLike, nonmembers: ArrayLike
) -> np.ndarray:
    """AUC in each resample, (R,), from counts (R, M) and (R, N)."""
    a, b = _scores(members, nonmembers)
    order = np.argsort(b)
    below = _cumulated(nonmember_counts[:, order])  # (R, N + 1): weight of the i lowest non-members
    beaten = below[:, np.searchsorted(b[order], a, "left")]  # (R, M)
    not_above = below[:, np.searchsorted(b[order], a, "right")]
    pairs = member_counts.sum(axis=1) * nonmember_counts.sum(axis=1)
    return (member_counts * (beaten + not_above)).sum(axis=1) / (2 * pairs)


def tpr_at_fpr(members: ArrayLike, nonmembers: ArrayLike, fpr: float) -> float:
    """TPR of scores (M,) against (N,) at a false positive rate of at most `fpr`."""
    a, b = _scores(members, nonmembers)
    return float(tpr_draws(np.ones((1, len(a))), np.ones((1, len(b))), a, b, fpr)[0])


def tpr_draws(
    member_counts: np.ndarray,
    nonmember_counts: np.ndarray,
    members: ArrayLike,
    nonmembers: ArrayLike,
    fpr: float,
) -> np.ndarray:
    """TPR at `fpr` in each resample, (R,): members whose own score is a threshold that is allowed."""
    a, b = _scores(members, nonmembers)
    order = np.argsort(b)
    below = _cumulated(nonmember_counts[:, order])
    total = below[:, -1:]  # (R, 1)
    reached = total - below[:, np.searchsorted(b[order], a, "left")]  # (R, M): non-members at or above
    caught = member_counts * (reached <= fpr * total + 1e-9)  # counts are whole; the rest is rounding
    return caught.sum(axis=1) / member_counts.sum(axis=1)


def _scores(members: ArrayLike, nonmembers: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    a, b = np.asarray(members, dtype=float), np.asarray(nonmembers, dtype=float)
    if not (len(a) and len(b)):
        raise ValueError(f"need at least one member and one non-member, got {len(a)} and {len(b)}")
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise ValueError("membership scores must be finite")
    return a, b


def _cumulated(counts: np.ndarray) -> np.ndarray:
    """Running sums that start at 0, (R, N) -> (R, N + 1)."""
    return np.concatenate([np.zeros((len(counts), 1)), np.cumsum(counts, axis=1)], axis=1)
