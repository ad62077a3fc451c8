"""Claims of comparisons in simulated studies: a part of the kept table again, and the kept variances."""

from __future__ import annotations

import csv
import sys

import pytest
from scipy import stats

from pipeline_lib.reporting.scores import read_scores
from tests.paths import REPO

sys.path.insert(0, str(REPO / "benchmarks"))
import comparisons

KEPT = REPO / "docs" / "measurements"


@pytest.fixture(scope="module")
def scores():
    return dict(read_scores(REPO / "results" / "reference" / "demo" / "scores.csv"))


def test_the_kept_variances_are_those_of_the_demo(scores) -> None:
    with open(KEPT / "variances.csv", newline="") as handle:
        kept = list(csv.DictReader(handle))
    assert kept == [{k: str(v) for k, v in line.items()} for line in comparisons.variances_of(scores)]


@pytest.mark.parametrize(("seeds", "groups"), [(5, 4), (3, 20)])
def test_a_few_studies_agree_with_the_kept_table(scores, seeds: int, groups: int) -> None:
    with open(KEPT / "claims.csv", newline="") as handle:
        kept = {(row["seeds"], row["groups"]): row for row in csv.DictReader(handle)}
    row, studies = kept[str(seeds), str(groups)], 400
    v = comparisons.together([fit for *_, fit in comparisons.pairs_of(scores, "authors")]).variances
    found = comparisons.claims(comparisons.drawn(v, seeds, groups, studies))
    for share, name in zip(found, ("over seeds", "mixed"), strict=True):
        low, high = stats.binom.interval(0.999, studies, float(row[name]))
        assert low <= share * studies <= high
    assert all(float(row["mixed"]) < 0.06 for row in kept.values())
