"""The benchmark of fronts: on a trial worked out by hand, and the list that is kept."""

from __future__ import annotations

import csv
import sys

from tests.metrics.test_path import OF, WAY
from tests.paths import REPO

sys.path.insert(0, str(REPO / "benchmarks"))
import fronts

from pipeline_lib.metrics.path import Path as RunPath

KEPT = REPO / "docs" / "measurements" / "fronts.csv"


def test_the_first_fall_by_hand() -> None:
    """From 0.95 at step 4 to 0.8 at step 8; at 0.4 there is none."""
    point = fronts.first_fall(RunPath.of(OF), 0.9)
    assert point is not None and WAY[0][0] < point.step < WAY[1][0]
    assert fronts.first_fall(RunPath.of(OF), 0.4) is None


def test_no_least_gap_lies_above_that_of_the_first_fall() -> None:
    with open(KEPT, encoding="utf-8", newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert len(rows) == 24 * 8 and tuple(rows[0]) == fronts.COLUMNS
    for row in rows:
        assert row["falls"] == ("yes" if row["first gap"] else "no")
        if row["first gap"]:
            assert float(row["least gap"]) <= float(row["first gap"]) + 1e-4
