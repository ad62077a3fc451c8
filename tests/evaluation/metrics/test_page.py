"""docs/metrics.md and the metric tables are in step, and the tables say something about every metric."""

from __future__ import annotations

from pipeline_lib.evaluation.metrics import METRICS
from pipeline_lib.evaluation.metrics.page import render
from pipeline_lib.evaluation.metrics.tables import FAMILIES
from tests.paths import REPO

PAGE = REPO / "docs" / "metrics.md"


def test_the_page_is_what_the_tables_print():
    assert PAGE.read_text(encoding="utf-8") == render(), (
        "out of step; run: python -m pipeline_lib.evaluation.metrics.page > docs/metrics.md"
    )


def test_every_metric_is_in_one_family_and_complete():
    names = [metric.name for family in FAMILIES.values() for metric in family]
    assert len(names) == len(set(names)) == len(METRICS)
    assert len({metric.label for metric in METRICS.values()}) == len(METRICS)
    for metric in METRICS.values():
        assert metric.source and metric.formula and metric.trap, metric.name
        assert metric.range[0] < metric.range[1], metric.name
        assert not any(line.count("\n") for line in (metric.formula, metric.source, metric.trap))


def test_bars_inside_a_cell_do_not_split_it():
    lines = [line for line in render().splitlines() if line.startswith("| `")]
    assert len(lines) == len(METRICS)
    assert {line.replace("\\|", "").count("|") for line in lines} == {9}
