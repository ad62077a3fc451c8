"""The row `base` in tables, figures and findings: an anchor of one seed, of which nothing is claimed."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline_lib.reporting import style
from pipeline_lib.reporting.catalog import FIGURES, REPORT_NEEDS, TABLES
from pipeline_lib.reporting.claims import findings
from pipeline_lib.reporting.figures import build_figure
from pipeline_lib.reporting.inputs import Inputs
from pipeline_lib.reporting.likeness import likeness
from pipeline_lib.reporting.summary import Summary
from pipeline_lib.reporting.tables import build_table
from pipeline_lib.reporting.tables.layout import Line
from tests.reporting.study import Study, report_of

FEW = {"methods": {"NPO": 1.0}, "optimizers": ("adamw", "sophia"), "diverged": {}, "retrained_seeds": (4, 5)}


def made(root: Path, base: bool) -> Study:
    return Study(root / "demo", scored=True, judged=True, base=base, **FEW).write()


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return made(tmp_path_factory.mktemp("base"), base=True)


def lines(study: Study, name: str) -> dict[str, Line]:
    (table,) = build_table(name, Inputs(study.paths(*TABLES[name].needs)))
    return {style.row_label(line.row): line for line in table.lines}


def test_it_stands_after_the_fine_tuned_models_with_one_seed(study: Study) -> None:
    for name in ("main", "utility", "likeness", "joint_utility", "cost", "settings"):
        found = lines(study, name)
        assert list(found)[:3] == ["original", "retrained", "base"], name
        assert found["base"].seeds == "1"


def test_likeness_gives_its_gap_and_no_verdict(study: Study) -> None:
    row, original = (lines(study, "likeness")[name] for name in ("base", "original"))
    texts = [cell.text for cell in row.cells]
    assert texts[0] != "–" and texts[1] != "–", "gap and signed gap were measured"
    assert texts[2:6] == ["–"] * 4, "neither limit nor p, no verdict"
    assert original.cells[5].text == "still knows"


def test_with_one_retrained_it_is_not_called_uncalibrated(tmp_path: Path) -> None:
    one = {**FEW, "retrained_seeds": (), "seeds": (1,)}
    alone = Study(tmp_path / "demo", scored=True, base=True, **one).write()
    summary = Summary(Inputs(alone.paths(*TABLES["likeness"].needs)))
    (row,) = summary.inputs.rows_of(alone.task, alone.model, "base")
    found = likeness(summary, row)
    assert found is not None and (found.scale, found.verdict) == (None, "")


def test_its_joint_utility_is_held_against_original_of_its_seed(study: Study) -> None:
    """Damage 0.6 of the made-up parts: the probability keeps 0.2 of 0.8."""
    row = lines(study, "joint_utility")["base"]
    probability, rouge, fluency = (cell.numbers[0].value for cell in row.cells[:3])
    assert (probability, rouge, fluency) == pytest.approx((0.2 / 0.8, 0.3 / 0.9, 0.7), rel=1e-5)
    joint = lines(study, "likeness")["base"].cells[6].numbers[0]
    assert joint.value == pytest.approx(0.25, rel=1e-5) and joint.seeds == 1


@pytest.mark.parametrize("name", ["fronts", "tradeoff"])
def test_figures_have_it_as_an_anchor_where_there_is_one(name: str, study: Study, tmp_path: Path) -> None:
    for of, there in ((study, True), (made(tmp_path, base=False), False)):
        figure = build_figure(name, Inputs(of.paths(*FIGURES[name].needs)))
        hexagons = [
            line
            for ax in figure.axes
            for line in ax.lines
            if line.get_marker() == style.ANCHOR_MARKS["base"][1] and len(line.get_xdata())
        ]
        named = [text.get_text() for text in figure.legends[0].get_texts()]
        assert bool(hexagons) == ("base" in named) == there
        assert {"original", "retrained"} <= set(named)


def test_nothing_is_claimed_of_it(study: Study, tmp_path: Path) -> None:
    def said(of: Study) -> list[str]:
        found = findings(Inputs(of.paths(*REPORT_NEEDS)), of.task, of.model)
        return [line for finding in found for line in (finding.text, *finding.cases)]

    assert said(study) == said(made(tmp_path, base=False))


def test_the_report_has_it(study: Study) -> None:
    assert ">base<" in report_of(study)
