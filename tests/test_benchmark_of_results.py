"""benchmarks/same_results.py says how far every value moved, by rounding and by other code."""

from __future__ import annotations

import csv
import importlib
from collections.abc import Callable
from pathlib import Path
from statistics import median

import pytest

from tests.paths import REPO
from tests.reporting.study import Study


def change(folder: Path, more: Callable[[dict[str, str]], float]) -> list[dict[str, str]]:
    """Move the values of a study; its rows as they were."""
    file = folder / "metrics.csv"
    with file.open(newline="") as handle:
        rows = list(csv.DictReader(handle))
    with file.open("w", newline="") as handle:
        writer = csv.DictWriter(handle, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        moved = [{"value": repr(float(row["value"]) + far)} if (far := more(row)) else {} for row in rows]
        writer.writerows({**row, **value} for row, value in zip(rows, moved, strict=True))
    return rows


def is_probability(row: dict[str, str]) -> bool:
    return row["split"] == "forget" and row["metric"] == "probability" and row["optimizer"] != "none"


# What is added to the probabilities of forget answers.
MOVES: dict[str, Callable[[dict[str, str]], float]] = {
    "rounding": lambda row: 0.001 * is_probability(row),
    "now": lambda row: (0.3 if row["method"] == "NPO" else -0.001) * is_probability(row),
}


def test_the_tables_are_the_arithmetic_of_the_pairs(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(REPO / "benchmarks"))
    same_results = importlib.import_module("same_results")
    before, *others = (Study(tmp_path / name / "demo").write().root for name in ("before", *MOVES))
    for folder, move in zip(others, MOVES.values(), strict=True):
        rows = change(folder, move)
    moved = [row for row in rows if is_probability(row)]

    lines = {line.pop("metric"): line for line in same_results.headline(before, others)}
    line = lines.pop(next(name for name in lines if name.endswith("Forget probability")))
    assert line["runs"] == str(len(moved))
    share = sum(row["method"] == "NPO" for row in moved) / len(moved)
    assert line["rounding, mean"] == line["rounding, largest"] == "0.0010"
    assert float(line["now, mean"]) == pytest.approx(0.3 * share + 0.001 * (1 - share), abs=6e-5)
    assert line["now, largest"] == "0.3000"
    assert lines and {line["now, largest"] for line in lines.values()} == {"0.0000"}

    table = {(line["models"], line["change"]): line for line in same_results.all_values(before, others)}
    kind = next(models for models, _ in table if models.endswith("unlearned"))
    unlearned = sum(row["optimizer"] != "none" for row in rows)
    low, high, value = ([float(row[name]) for row in moved] for name in ("ci_low", "ci_high", "value"))
    for way, move in MOVES.items():
        line, far = table[kind, way], [move(row) for row in moved]
        assert (line["values"], line["same bits"]) == (str(unlearned), str(unlearned - len(moved)))
        shares = [abs(f) / ((h - x) / 2) for f, x, h in zip(far, low, high, strict=True)]
        assert float(line["median share"]) == pytest.approx(median(shares), abs=6e-5)
        assert float(line["largest share"]) == pytest.approx(max(shares), abs=6e-3)
        left = sum(not x <= v + f <= h for v, f, x, h in zip(value, far, low, high, strict=True))
        assert line["left it"] == str(left) and (left > 0) == (way == "now")
    assert next(line for (models, _), line in table.items() if models.endswith("tuned"))["left it"] == "0"
