"""The metrics of the field as pure functions, one idea a file, and what each one is called and means.

Nothing here imports torch: reporting takes labels, arrows and sources from `METRICS`.
A new metric is one file here, one entry in its family's table (tables/) and a line of docs/metrics.md, which
is printed from these tables (page.py).
"""

from __future__ import annotations

from pipeline_lib.evaluation.metrics.definition import (
    AS_RELEASED,
    AT_EQUAL_RETAIN,
    FORGET_SPLIT,
    RUN_SPLIT,
    TOXICITY_SPLIT,
    UNSEEN_SPLIT,
    UTILITY_SPLIT,
    Metric,
    Need,
)
from pipeline_lib.evaluation.metrics.tables import FAMILIES

__all__ = [
    "AS_RELEASED",
    "AT_EQUAL_RETAIN",
    "FORGET_SPLIT",
    "METRICS",
    "RUN_SPLIT",
    "TOXICITY_SPLIT",
    "UNSEEN_SPLIT",
    "UTILITY_SPLIT",
    "Metric",
    "Need",
    "arrow",
    "direction",
]

METRICS: dict[str, Metric] = {metric.name: metric for family in FAMILIES.values() for metric in family}


def direction(split: str, metric: str) -> bool | None:
    """Is a higher value of `metric` on `split` better? None: neither.

    `forget` and `unseen`, and views of them such as `forget_300`, hold what is to be forgotten: an unseen
    split is of the same kind as the forget set, but unlearning is not shown it.
    """
    declared = METRICS[metric]
    to_forget = any(split == name or split.startswith(f"{name}_") for name in (FORGET_SPLIT, UNSEEN_SPLIT))
    return declared.higher_is_better_on_forget if to_forget else declared.higher_is_better


def arrow(split: str, metric: str) -> str:
    """The direction as a table heading shows it: an arrow up, an arrow down, or nothing."""
    return {True: "↑", False: "↓", None: ""}[direction(split, metric)]
