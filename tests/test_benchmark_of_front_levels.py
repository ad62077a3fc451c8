"""The kept paths of core give its least gaps again, and the list by level is theirs."""

from __future__ import annotations

import csv
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.paths import REPO

sys.path.insert(0, str(REPO / "benchmarks"))
import front_levels

from pipeline_lib.metrics.path import Path as RunPath

CORE = REPO / "results" / "reference" / "core"
CONTROLS = REPO / "results" / "reference" / "core-controls"


def table(name: str, folder: Path = CORE) -> list[dict[str, Any]]:
    with open(folder / name, encoding="utf-8", newline="") as handle:
        return list(csv.DictReader(handle))


@pytest.fixture(scope="module")
def paths() -> dict[Any, RunPath]:
    return {key: RunPath.of(study) for key, study in front_levels.studies(CORE).items()}


@pytest.mark.parametrize(("folder", "runs"), [(CORE, 120), (CONTROLS, 40)], ids=["core", "controls"])
def test_the_least_gaps_come_from_what_is_kept(folder: Path, runs: int) -> None:
    """Every run's front in metrics.csv, from paths.csv and scores.csv alone."""
    kept = {
        (row["method"], row["optimizer"], int(row["seed"])): float(row["value"])
        for row in table("metrics.csv", folder)
        if row["metric"] == "front_gap"
    }
    found = {key: RunPath.of(study) for key, study in front_levels.studies(folder).items()}
    assert len(kept) == len(found) == runs
    for key, path in found.items():
        assert path.front(0.9).gap == pytest.approx(kept[key.method, key.optimizer, key.seed], abs=2e-5)


@pytest.mark.parametrize("folder", [CORE, CONTROLS], ids=["core", "controls"])
def test_the_list_by_level_is_that_of_the_paths(folder: Path) -> None:
    found = [dict(zip(front_levels.COLUMNS, map(str, row), strict=True)) for row in front_levels.rows(folder)]
    assert found == table("levels.csv", folder)


def test_what_ran_out_and_what_was_lost_by_hand(paths: dict[Any, RunPath]) -> None:
    """A lower level never makes the least gap larger; what ran out ends above the level at its front."""
    for path in paths.values():
        gaps = [path.front(level).gap for level in front_levels.LEVELS]
        assert gaps == sorted(gaps)
    (row,) = [
        r
        for r in table("levels.csv")
        if (r["level"], r["method"], r["optimizer"]) == ("0.9", "GradDiff", "sophia")
    ]
    last = [path.points[-1] for key, path in paths.items() if key[2:4] == ("GradDiff", "sophia")]
    assert row["ran_out"] == "5" and row["lost"] == "0" and all(point.utility > 0.9 for point in last)
