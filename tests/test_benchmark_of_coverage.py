"""The bootstrap over groups: its coverage in a few simulated studies agrees with the table that is kept."""

from __future__ import annotations

import csv
from importlib.util import module_from_spec, spec_from_file_location

import pytest
from scipy import stats

from tests.paths import REPO


@pytest.fixture
def simulated():
    path = REPO / "benchmarks" / "coverage.py"
    spec = spec_from_file_location("coverage_of_groups", path)  # `coverage` is another package's name
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.coverage


@pytest.mark.parametrize("groups", [2, 20])
def test_a_few_studies_agree_with_the_kept_table(simulated, groups: int) -> None:
    with open(REPO / "docs" / "measurements" / "coverage.csv", newline="") as handle:
        kept = {row["groups"]: float(row["correlation 0.6"]) for row in csv.DictReader(handle)}
    share, studies = kept[str(groups)], 120
    low, high = stats.binom.interval(0.999, studies, share)
    assert low <= simulated(groups, 0.6, studies) * studies <= high
