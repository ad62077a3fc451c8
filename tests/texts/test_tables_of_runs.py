"""The tables of the reference runs are those of their metrics and costs: who cites one cites both."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from statistics import fmean

import pytest

from tests.paths import REPO
from tests.texts.tables import Library, Row

RUNS = sorted(path.parent for path in (REPO / "results" / "reference").glob("*/metrics.csv"))
LIBRARY = Library()
Key = tuple[str, ...]
BySeed = dict[str, float]


def key(row: Row, quantity: str) -> Key:
    """A table names the stages behind a row in words."""
    stages = "/".join(row["row"].split(", then ")[1:]) if "row" in row else row.get("after", "")
    return (*(row[name] for name in ("task", "model", "method", "optimizer")), stages, quantity)


def by_seed(run: Path) -> dict[Key, BySeed]:
    """What each row of a study measured, seed by seed, under the names that the tables use."""
    found: dict[Key, BySeed] = defaultdict(dict)
    for row in LIBRARY.table(run / "metrics.csv").rows:
        if row["value"]:
            found[key(row, f"{row['split']}.{row['metric']}")][row["seed"]] = float(row["value"])
    for row in LIBRARY.table(run / "costs.csv").rows:
        for name in ("steps", "train_time_s", "time_per_step_s", "peak_memory_mb", "clipped_share"):
            if row[name]:
                found[key(row, name)][row["seed"]] = float(row[name])
    return found


@pytest.fixture(params=RUNS, ids=[run.name for run in RUNS])
def run(request: pytest.FixtureRequest) -> Path:
    return request.param


def test_a_table_shows_the_mean_over_seeds(run: Path) -> None:
    measured = by_seed(run)
    held = 0
    for path in sorted((run / "tables").glob("*.csv")):
        for row in LIBRARY.table(path).rows:
            seeds = measured.get(key(row, row["quantity"]))
            if seeds and path.stem not in {"comparisons", "settings", "tuning"}:
                assert float(row["value"]) == pytest.approx(fmean(seeds.values()), rel=1e-9, abs=1e-12), row
                held += 1
    assert held > 150


def test_a_comparison_shows_the_mean_paired_difference(run: Path) -> None:
    measured = by_seed(run)
    held = 0
    for row in LIBRARY.table(run / "tables" / "comparisons.csv").rows:
        quantity, _, other = row["quantity"].partition(" minus ")
        if other and ":" not in other:
            first, second = (
                measured[key({**row, "optimizer": name}, quantity)] for name in (row["optimizer"], other)
            )
            shared = sorted(first.keys() & second.keys())
            difference = fmean(first[seed] - second[seed] for seed in shared)
            assert float(row["value"]) == pytest.approx(difference, rel=1e-9, abs=1e-12), row
            held += 1
    assert held >= 8
