"""docs/metrics.md is what the declarations print, and each of them says what a reader must know."""

from __future__ import annotations

from pipeline_lib.metrics import by_module, declared
from pipeline_lib.metrics.page import render
from tests.paths import REPO

PAGE = REPO / "docs" / "metrics.md"


def test_the_page_is_what_the_declarations_print():
    assert PAGE.read_text(encoding="utf-8") == render(), (
        "out of step; run: python -m pipeline_lib.metrics.page > docs/metrics.md"
    )


def test_every_declaration_is_complete():
    every = [metric for metrics in by_module().values() for metric in metrics]
    assert len(every) == len(declared()), "a name is taken twice"
    assert len({metric.label for metric in every}) == len(every)
    assert len({metric.order for metric in every}) == len(every)
    for metric in every:
        assert metric.source and metric.formula and metric.trap, metric.name
        assert metric.range[0] < metric.range[1], metric.name
        assert not any(line.count("\n") for line in (metric.formula, metric.source, metric.trap))


def test_bars_inside_a_cell_do_not_split_it():
    lines = [line for line in render().splitlines() if line.startswith("| `")]
    assert len(lines) == len(declared())
    assert {line.replace("\\|", "").count("|") for line in lines} == {10}
