"""Length of the unlearning at equal retention: how much of a model's step keeps the suite's retention.

Source: Unlearning with Control (arXiv 2406.09179), its model mixing; the search is engine/equal_retain.py.
Range: 0 (the original) over 1 (as trained) to 2. Direction: neither.
Traps: found by a search, so it has no interval.
"""

from __future__ import annotations

from pipeline_lib.metrics.definition import EQUAL_RETENTION, EQUAL_RETENTION_SOURCE, RUN_SPLIT, Metric
from pipeline_lib.metrics.statistics import without_interval

METRICS = [
    Metric(
        name="equal_retain_mix",
        label="Length of the unlearning at equal retention",
        short_label="Length of the unlearning there (1 = as trained)",
        higher_is_better=None,
        higher_is_better_on_forget=None,
        range=(0, 2),
        source=EQUAL_RETENTION_SOURCE,
        formula="share of the step from the original to this model at which retention is equal "
        "(1 = as trained)",
        trap="found by a search, so it has no interval",
        family=EQUAL_RETENTION,
        tables={"main": 40},
        no_interval="found by a search",
        on="run",
        split=RUN_SPLIT,
        compute=lambda run: run.mix and without_interval(run.mix["mix"], len(run.mix["retain"])),
        order=730,
        only_with=("equal_retain",),
    )
]
