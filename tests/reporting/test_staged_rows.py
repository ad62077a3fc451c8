"""Rows of models to which something was done afterwards, and of averaged ones: numbers, names and marks."""

from __future__ import annotations

from pathlib import Path

import matplotlib
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex

from pipeline_lib.reporting import style
from pipeline_lib.reporting.catalog import FIGURES, PAPER_FIGURES, PAPER_TABLES, REPORT_NEEDS, TABLES
from pipeline_lib.reporting.claims import findings
from pipeline_lib.reporting.figures import build_figure
from pipeline_lib.reporting.inputs import Inputs
from pipeline_lib.reporting.tables import build_table
from pipeline_lib.reporting.tables.layout import Table
from tests.reporting.staged import STAGED, write_staged
from tests.reporting.study import Study, report_of

NAMES = {display: (d, utility) for display, _, d, utility in STAGED.values()}


@pytest.fixture(scope="module")
def staged(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return write_staged(tmp_path_factory.mktemp("staged") / "demo")


def _table(name: str, study: Study) -> Table:
    (table,) = build_table(name, Inputs(study.paths(*TABLES[name].needs)))
    return table


def _means(table: Table, head: str) -> dict[str, float]:
    """Row -> mean of the column that begins so, as written for people."""
    (place,) = [i for i, text in enumerate(table.columns) if text.startswith(head)]
    return {line.row.display: float(line.cells[place].text) for line in table.lines}


@pytest.mark.parametrize(("name", "column"), [("main", 0), ("main", 1), ("utility", 1)])
def test_a_table_has_every_number_in_its_own_row(staged: Study, name: str, column: int) -> None:
    means = _means(_table(name, staged), ("KS\u00a0D", "Model utility")[column].replace("\u00a0", " "))
    assert list(means)[:2] == ["original", "retrained"]
    assert len(means) == 2 + 2 * 5 + len(STAGED)
    assert {row: means[row] for row in NAMES} == {row: both[column] for row, both in NAMES.items()}


def test_comparisons_hold_a_stage_against_the_same_stage(staged: Study) -> None:
    lines = _table("comparisons", staged).lines
    found = {
        (line.row.display, line.cells[0].text): line.cells[2].text
        for line in lines
        if line.cells[1].text == "KS D"
    }
    assert len(found) == 2 * 3 * 2 + 1
    assert found["NPO + Sophia, then other", "NPO + AdamW, then other"] == "0.110"
    for pair in found:
        assert len({name.endswith("then other") for name in pair}) == 1, pair
    assert not {name for pair in found for name in pair} & {"soup", "halfway", "original, then other"}


def _mark_at(ax: Axes, x: float, y: float) -> tuple[str, str, str]:
    """Colour, marker and face of the large mark there."""
    (line,) = [
        line
        for line in ax.lines
        if np.size(line.get_xdata()) == 1
        and line.get_marker() not in ("|", "_")
        and np.allclose(np.ravel(line.get_data()), (x, y))
    ]
    return to_hex(line.get_color()), str(line.get_marker()), to_hex(line.get_markerfacecolor())


def test_tradeoff_tells_every_row_from_the_others(staged: Study) -> None:
    figure = build_figure("tradeoff", Inputs(staged.paths(*FIGURES["tradeoff"].needs)))
    assert [ax.get_title(loc="left") for ax in figure.axes] == ["GradDiff", "NPO"], "an anchor is no method"
    graddiff, npo = figure.axes
    attacked = [name for name in NAMES if name.endswith("then other")]
    marks = {name: _mark_at(npo, *place) for name, place in NAMES.items() if name not in attacked}
    assert marks == {
        "soup": ("#6a51a3", "P", "#6a51a3"),
        "soup, then later": ("#6a51a3", "P", "#ffffff"),
        "halfway": ("#666666", "P", "#666666"),
    }
    for name in ("soup", "halfway"):
        assert _mark_at(graddiff, *NAMES[name]) == marks[name], "for comparison in every panel"
    texts = [text.get_text() for text in figure.legends[0].get_texts() if text.get_text().strip()]
    assert texts[texts.index("Not unlearned") + 1] == "halfway"
    assert texts[texts.index("Neither order") + 1] == "soup"
    assert not [text for text in texts if "then other" in text], "an attack, which `retrained` shows too"


def test_steps_and_costs_are_those_of_unlearning_alone(staged: Study) -> None:
    figure = build_figure("trajectory", Inputs(staged.paths(*FIGURES["trajectory"].needs)))
    losses = [ax for ax in figure.axes if ax.get_ylabel().startswith("Forget loss")]
    assert [ax.get_title(loc="left") for ax in losses] == ["GradDiff", "NPO"]
    assert [[np.size(line.get_xdata()) for line in ax.lines] for ax in losses] == [[50] * 5] * 2
    assert not [text.get_text() for text in figure.legends[0].get_texts() if "then" in text.get_text()]
    cost = build_figure("cost", Inputs(staged.paths(*FIGURES["cost"].needs)))
    names = [label.get_text() for label in cost.axes[0].get_yticklabels()]
    assert [names.count(name) for name in ("GradDiff", "NPO", "AdamW")] == [1, 1, 2]
    assert not [name for name in names if "then" in name]


def test_the_legend_of_a_panel_of_truth_ratios_stays_within_it(staged: Study) -> None:
    with matplotlib.rc_context(style.RC):
        figure = build_figure("truth_ratio", Inputs(staged.paths(*FIGURES["truth_ratio"].needs)))
        figure.draw_without_rendering()
        first, second = (ax.get_legend().get_window_extent() for ax in figure.axes)
        panels = [ax.get_window_extent().height for ax in figure.axes]
    assert first.x0 >= 0 and first.x1 < second.x0 and second.x1 <= figure.bbox.width
    assert first.y0 >= 0 and second.y0 >= 0 and min(panels) > 1.2 * figure.dpi


def test_what_is_made_of_anchors_is_not_said_to_be_unlearned(staged: Study) -> None:
    found = findings(Inputs(staged.paths(*REPORT_NEEDS)), staged.task, staged.model)
    lines = [line for finding in found for line in (finding.text, *finding.cases)]
    assert any("after unlearning" in line for line in lines) and any("KS" in line for line in lines)
    for line in lines:
        assert not any(name in line for name in ("original, then", "retrained, then", "halfway"))


def test_an_attack_is_no_part_of_what_is_said_of_unlearning(staged: Study) -> None:
    found = findings(Inputs(staged.paths(*REPORT_NEEDS)), staged.task, staged.model)
    said = [line for of in found for line in (of.text, *of.cases) if "stay forgotten" not in of.text]
    assert any("soup, then later" in line for line in said), "which `retrained` did not go through"
    # Two models after the same attack may be held against each other.
    assert not [line for line in said if "then other" in line and "then other against" not in line]


def test_what_is_made_of_anchors_is_no_method_and_was_not_tuned(staged: Study) -> None:
    inputs = Inputs(staged.paths("runs.json", "manifest.json"))
    assert inputs.methods(staged.task, staged.model) == ["GradDiff", "NPO", "soup"]
    tuned = [line.row.key for line in _table("tuning", staged).lines]
    assert {key.method for key in tuned} == {"GradDiff", "NPO"} and not any(key.after for key in tuned)


def test_the_table_of_settings_has_those_of_the_stage(staged: Study) -> None:
    table = _table("settings", staged)
    assert table.columns == ("Objective", "Optimiser", "Training", "Stage")
    cells = {line.row.display: [cell.text for cell in line.cells] for line in table.lines}
    learned = "kind finetune, split facts, learning_rate 1e-05, epochs 3, of "
    assert cells["NPO + AdamW, then other"] == ["–", "–", "–", f"{learned}(NPO+adamw)"]
    assert cells["soup, then later"] == ["–", "–", "–", f"{learned}(soup)"]
    assert cells["soup"] == ["–", "–", "–", "kind average, weights none, of (NPO+adamw, NPO+sophia)"]
    assert cells["NPO + AdamW"][0].startswith("kind NPO") and cells["NPO + AdamW"][3] == "–"


def test_what_a_stage_cost_is_not_held_against_unlearning(staged: Study) -> None:
    table = _table("cost", staged)
    relative = {line.row.display: line.cells[2].text for line in table.lines}
    assert table.columns[2] == "Relative to AdamW (×)"
    assert {name for name, text in relative.items() if text == "–"} == {*NAMES, "original", "retrained"}
    assert relative["NPO + AdamW"] == "1.00"
    inputs = Inputs(staged.paper_paths(*PAPER_TABLES["table_time"].needs), tasks=[staged.task])
    (paper,) = build_table("table_time", inputs)
    over = {line.row.display: [cell.text for cell in line.cells[2:]] for line in paper.lines}
    assert over["NPO + Sophia, then other"] == ["–", "–"] and "–" not in over["NPO + Sophia"]


def test_the_report_says_which_stages_were_run(staged: Study, tmp_path: Path) -> None:
    stages = "other (finetune), later (finetune), soup (average), halfway (average)"
    page = report_of(staged)
    assert f"Stages were run on finished models: {stages}." in page and "no relearning" not in page
    assert "no relearning" in report_of(Study(tmp_path / "demo", seeds=(1,), diverged={}).write())


def test_the_distance_and_power_figures_name_and_colour_it(staged: Study) -> None:
    figure = build_figure("distance", Inputs(staged.paths(*FIGURES["distance"].needs)))
    names = [label.get_text() for label in figure.axes[1].get_yticklabels()]
    assert names[0] == "original" and {"soup", "soup, then later"} <= set(names)
    assert not [name for name in names if "then other" in name]
    power = build_figure("power", Inputs(staged.paths(*FIGURES["power"].needs)))
    assert "not unlearned" in {text.get_text() for text in power.legends[0].get_texts()}


def test_the_highlight_gives_it_a_bar_under_its_own_name(staged: Study) -> None:
    inputs = Inputs(staged.paper_paths(*PAPER_FIGURES["figure_highlight"].needs), tasks=[staged.task])
    utility = build_figure("figure_highlight", inputs).axes[-1]
    names = [label.get_text() for label in utility.get_xticklabels()]
    bare = ["original, then other", "retrained, then other", "halfway", "halfway, then other"]
    assert [name for name in names if name in bare] == bare
    assert [name for name in names if name not in bare] == ["GradDiff", "NPO", "soup"]
    heights = [bar.get_height() for bar in utility.patches]  # type: ignore[attr-defined]
    assert heights[:2] == pytest.approx([0.63, 0.64])
    assert len(utility.patches) == 4 + 2 * 5 + 2 + 2
