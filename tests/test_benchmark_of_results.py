"""benchmarks/same_results.py says how far every value moved, by rounding and by other code."""

from __future__ import annotations

import csv
import importlib
from collections.abc import Callable
from pathlib import Path

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


def test_the_tables_are_the_arithmetic_of_the_pairs(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(REPO / "benchmarks"))
    same_results = importlib.import_module("same_results")
    before, *others = (Study(tmp_path / name / "demo").write().root for name in ("before", "rounding", "now"))
    change(others[0], lambda row: 0.001 if is_probability(row) else 0.0)
    rows = change(others[1], lambda row: is_probability(row) * (0.03 if row["method"] == "NPO" else -0.01))
    moved = [row for row in rows if is_probability(row)]

    lines = {line.pop("metric"): line for line in same_results.headline(before, others)}
    (name,) = (name for name in lines if name.endswith("Forget probability"))
    assert lines[name]["runs"] == str(len(moved))
    assert lines[name]["rounding, mean"] == lines[name]["rounding, largest"] == "0.0010"
    share = sum(row["method"] == "NPO" for row in moved) / len(moved)
    assert float(lines[name]["now, mean"]) == pytest.approx(0.03 * share + 0.01 * (1 - share), abs=6e-5)
    assert lines[name]["now, largest"] == "0.0300"
    others_moved = {line["now, largest"] for key, line in lines.items() if key != name}
    assert others_moved == {"0.0000"}

    table = {(line["models"], line["change"]): line for line in same_results.all_values(before, others)}
    (kind,) = {models for models, _ in table if models.endswith("unlearned")}
    unlearned = [row for row in rows if row["optimizer"] != "none"]
    for way, far in (("rounding", lambda _: 0.001), ("now", lambda m: 0.03 if m == "NPO" else 0.01)):
        line = table[kind, way]
        assert line["values"] == str(len(unlearned))
        assert line["same bits"] == str(len(unlearned) - len(moved))
        halves = [(float(row["ci_high"]) - float(row["ci_low"])) / 2 for row in moved]
        shares = sorted(far(row["method"]) / half for row, half in zip(moved, halves, strict=True))
        assert float(line["largest share"]) == pytest.approx(shares[-1], abs=6e-3)
        assert line["left it"] == str(sum(row["method"] == "NPO" for row in moved) * (way == "now")), way
