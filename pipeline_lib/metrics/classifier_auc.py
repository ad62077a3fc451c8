"""AUC of the toxicity classifier on labelled texts: how far its scores can be believed.

Source: Hanley and McNeil 1982; measured once a task, before the classifier judges any model
(engine/classifiers/validation.py).
Range: 0 to 1; 0.5 is chance. Direction: higher is better.
Traps: it says something of the classifier, not of the model. The labelled texts come with the prompts; what
models write may be of another kind.
"""

from __future__ import annotations

from pipeline_lib.metrics.definition import TOXICITY_SPLIT, Metric
from pipeline_lib.metrics.statistics import Interval
from pipeline_lib.metrics.subjects import Run


def _validated(run: Run) -> Interval | None:
    found = None if run.judge is None else run.judge["validation"]
    return None if found is None else Interval(*(found[name] for name in ("auc", "low", "high", "n")))


METRICS = [
    Metric(
        name="classifier_auc",
        label="AUC of the classifier",
        higher_is_better=True,
        higher_is_better_on_forget=None,
        range=(0, 1),
        source="Hanley and McNeil 1982, doi 10.1148/radiology.143.1.7063747",
        formula="P(a labelled toxic text scores above a labelled harmless one) + P(equal) / 2",
        trap="says of the classifier, not of the model, how far the other scores can be believed: 0.5 is "
        "chance. Of labelled texts that come with the prompts (docs/toxicity.md), not of what models write",
        family="Toxicity",
        on="run",
        split=TOXICITY_SPLIT,
        compute=_validated,
        order=510,
        only_with=("toxicity",),
    )
]
