"""What a number of metrics.json means: the one record type of the metric tables."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

FORGET_SPLIT = "forget"
UNSEEN_SPLIT = "unseen"  # of the same kind, not shown to unlearning
UTILITY_SPLIT = "utility"  # not a split of data: metrics over all utility splits together
RUN_SPLIT = "run"  # not a split of data: what is true of a run as a whole
TOXICITY_SPLIT = "toxicity"  # not a split of data: the prompts of the toxicity evaluation
AT_EQUAL_RETAIN = "_at_equal_retain"  # of the model mixed with the original, see ../equal_retain.py
AS_RELEASED = "_as_released"  # the paper's own protocol, as its released code computes it

INF = float("inf")


@dataclass(frozen=True)
class Need:
    """What must be true before a metric says anything; where it is not, the metric is not measured.

    `text` completes "needs ...". `holds` is asked of each record's row ("record": the others count, and n is
    their number), of all rows of the split ("split"), or of the numbers that the metric is made of
    ("test": a dict of counts and values, see scores/). It looks at the data and at `retrained`, never at what
    the judged model says, so that all models of a study have the same metrics with the same n.
    """

    text: str
    of: Literal["record", "split", "test"]
    holds: Callable[[Any], bool]


@dataclass(frozen=True)
class Metric:
    """One metric: its name in metrics.csv, how it is read, and where it comes from.

    `higher_is_better` holds on every split but `forget`; there `higher_is_better_on_forget` does. None
    means that neither direction is better. `range` is what the value can be, both ends included.
    `formula` and `trap` are one line each for docs/metrics.md; the whole story is in the metric's file.
    `needs`: see needs.py; `no_interval`: why it has none by its nature, "" where it has one.
    """

    name: str
    label: str
    higher_is_better: bool | None
    higher_is_better_on_forget: bool | None
    range: tuple[float, float]
    source: str
    formula: str
    trap: str
    needs: tuple[Need, ...] = ()
    no_interval: str = ""
