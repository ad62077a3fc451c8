"""The Unlearning Depth Score: how much of what `original`'s layers know is missing in a model's layers.

Source: Lee, Kim and Jo 2026, "Measuring the Depth of LLM Unlearning via Activation Patching", arXiv
2605.24614, eq. 1 to 6; arithmetic as in gnueaj/unlearning-depth-score at fc31639 (compute_uds.py).
Formulas, for question i and layer l:
    s1 = what `original` loses of log p(answer), nats per token, with `retrained`'s state in layer l
    s2 = the same with the judged model's state (both by engine/inside.py)
    the layers with s1 > 0.05 carry the answer
    depth of i = sum s1 clip(s2 / s1, 0, 1) / sum s1 over these layers
    depth_score = mean over the questions that some layer carries; depth_unscored = share of the others
`retrained` and `original` are those of the model's own seed.
Range: 0 (intact: a model like `original` inside) to 1 (erased as far as in `retrained`). Higher is better.
Needs: `retrained`, and one question that some layer carries.
Traps: a question that no layer carries has no score; the authors leave such out, and so does this, so read
depth_unscored beside it. Damage erases too: a collapsed model scores 1. What lies above 1 is clipped, so that
noise alone keeps a model that never saw the data below 1. `retrained` itself has no score: it is 1 by
construction, and the next seed's drops are of another `original`, which knows other amounts. States compare
only between models that come from the same weights; where these were random the models part early, and s1
holds more than knowledge.

Shapes: N questions, L layers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from pipeline_lib.metrics.definition import Metric
from pipeline_lib.metrics.needs import CARRIED
from pipeline_lib.metrics.statistics import Interval
from pipeline_lib.metrics.subjects import Split

CARRIES = 0.05  # nats per token, the paper's tau


def question_depth(first: Sequence[float], second: Sequence[float]) -> float:
    """Depth of one question from the drops of the two stages, L each; NaN where no layer carries it."""
    carrying = [(s1, s2) for s1, s2 in zip(first, second, strict=True) if s1 > CARRIES]
    if not carrying:
        return math.nan
    # s1 clip(s2 / s1, 0, 1), for s1 above 0
    return sum(min(max(s2, 0.0), s1) for s1, s2 in carrying) / sum(s1 for s1, _ in carrying)


def _depths(split: Split) -> np.ndarray:
    """Of each question, (N,)."""
    return np.array([question_depth(row["drop_of_retrained"], row["drop"]) for row in split.rows])


def _depth_score(split: Split) -> Interval:
    """Over the questions with a depth; n is that of all, as others of a row may lack it elsewhere."""
    depths = split.once(_depths)
    CARRIED.demand(int(np.isfinite(depths).sum()), len(depths))
    return replace(split.mean(depths), n=len(depths))


_DEPTH = Metric(
    name="depth_score",
    label="Unlearning Depth Score",
    short_label="Depth",
    higher_is_better=True,
    higher_is_better_on_forget=True,
    range=(0, 1),
    source="arXiv 2605.24614, eq. 1 to 6; over the whole answer, where the authors mark an entity",
    formula="mean over questions of sum s1 clip(s2 / s1, 0, 1) / sum s1, over layers with s1 > 0.05: what "
    "`original` loses with the states of `retrained` (s1), of the model (s2)",
    trap="a collapsed model scores 1; n counts unscored questions too, see depth_unscored",
    family="Inside the model",
    tables={"inside": 30},
    on="inside",
    of="split",
    fields=("drop", "drop_of_retrained"),
    needs=(CARRIED,),
    compute=_depth_score,
    order=800,
    only_with=("inside",),
    compares=True,
)
METRICS = [
    _DEPTH,
    replace(
        _DEPTH,
        name="depth_unscored",
        label="Questions without a depth",
        short_label="Without depth",
        higher_is_better=None,
        higher_is_better_on_forget=None,
        formula="share of questions for which no layer has s1 > 0.05",
        trap="says something of `original` and `retrained`, and nothing of the model",
        tables={"inside": 40},
        needs=(),
        of="column",
        compute=lambda split: np.isnan(split.once(_depths)).astype(float),
        order=801,
    ),
]
