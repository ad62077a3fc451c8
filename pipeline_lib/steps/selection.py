"""Which trial is chosen: the one nearest to `retrained` where rows are compared.

Rows that are judged on their way are compared by the least gap of their paths at one joint utility
(metrics/path.py), and are chosen by it: the trial with the lowest mean of it over the tuning seeds. Every
trial that did not diverge has one, and keeps that utility there.

Rows that are judged by their last step alone have a bound. Every trial ran once on each tuning seed. A trial
keeps the bound when on every one of these seeds its joint utility of likelihoods, a share of that of
`original`, is at least 1 - utility_within. Of the trials that keep the bound, the one with the lowest mean
over tuning seeds of the forget value is chosen: of the gap to `retrained`, which grows again when more is
taken than `retrained` lacks, or of the probability of the forget answers where a task has no `retrained`. If
none keeps it, the one with the highest mean joint utility is chosen and `bound_met` is false. A trial that
diverged on any seed is lost: it is recorded and never chosen.
If all are lost, the first one stands for them, so that the reported run says that it diverged. The lower
number wins a tie.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline_lib.metrics.definition import FRONT_GAP

FORGET_VALUES = {
    FRONT_GAP: FRONT_GAP,
    "gap": "gap",
    "probability": "forget_probability",
}  # of `select.forget`
OK, ALL_LOST = "ok", "every trial diverged"
SKIPPED = "skipped"  # a trial of a round for which no range became wider


def choose(trials: Mapping[int, Sequence[Mapping[str, Any]]], forget: str, least: float) -> dict[str, Any]:
    """Number of the chosen trial, status, bound_met, the bound `least`, and every trial's means.

    `trials`: number -> its runs, one a tuning seed, each with `status`, `joint_utility` and the values of
    FORGET_VALUES. `forget`: a key of FORGET_VALUES. `least`: joint utility, the bound, or for FRONT_GAP the
    level.
    """
    judged = [_judged(number, trials[number], least, FORGET_VALUES[forget]) for number in sorted(trials)]
    finished = [trial for trial in judged if trial["status"] == OK]
    kept = [trial for trial in finished if trial["bound_met"]]
    # min and max return the first of equals, and the trials are in the order of their numbers
    if kept:
        best = min(kept, key=lambda trial: trial["forget"])
    elif finished:
        best = max(finished, key=lambda trial: trial["joint_utility"])
    else:
        best = judged[0]
    return {
        "trial": best["trial"],
        "status": OK if finished else ALL_LOST,
        "bound_met": bool(kept),
        "least": least,
        "forget": best["forget"],
        "joint_utility": best["joint_utility"],
        "diverged": len(judged) - len(finished),
        "trials": judged,
    }


def _judged(number: int, runs: Sequence[Mapping[str, Any]], least: float, forget: str) -> dict[str, Any]:
    """Means over the tuning seeds of one trial; none for a trial that diverged on any of them."""
    lost, values = any(run["status"] != OK for run in runs), [run[forget] for run in runs]
    kept = forget == FRONT_GAP or all(run["joint_utility"] >= least for run in runs if not lost)
    return {
        "trial": number,
        "status": "diverged" if lost else OK,
        "bound_met": not lost and kept,
        "forget": None if lost else _mean(values),
        "joint_utility": None if lost else _mean([run["joint_utility"] for run in runs]),
    }


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def at_edge(tried: Sequence[Mapping[str, Any]], chosen: Mapping[str, Any]) -> dict[str, str]:
    """Settings whose chosen value is the lowest or highest that was tried: a better one may lie beyond it.

    `tried`: the settings of every trial. Only numbers that differ between trials have an edge.
    """
    edges = {}
    for name, value in chosen.items():
        values = [settings[name] for settings in tried if _is_number(settings[name])]
        if _is_number(value) and min(values) < max(values) and value in (min(values), max(values)):
            edges[name] = "lowest" if value == min(values) else "highest"
    return edges


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
