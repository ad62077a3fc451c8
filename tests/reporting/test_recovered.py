"""A stage that was judged on its way: its curves, the largest recovery in the table, and the finding."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipeline_lib.reporting.catalog import FIGURES, REPORT_NEEDS, TABLES
from pipeline_lib.reporting.claims import findings
from pipeline_lib.reporting.figures import build_figure
from pipeline_lib.reporting.inputs import Inputs
from pipeline_lib.reporting.recovered import QUESTION
from pipeline_lib.reporting.tables import build_table
from pipeline_lib.reporting.tables.layout import Table
from tests.reporting.staged import JUDGED_AT, RELEARNED, write_relearned
from tests.reporting.study import Study, without_lines, write_json
from tests.reporting.test_robustness import numbers


@pytest.fixture(scope="module")
def relearned(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return write_relearned(tmp_path_factory.mktemp("relearned") / "demo")


def robustness(study: Study) -> Table:
    (found,) = build_table("robustness", Inputs(study.paths(*TABLES["robustness"].needs)))
    return found


def said(study: Study) -> tuple[str, ...]:
    found = findings(
        Inputs([*study.paths(*REPORT_NEEDS), *study.paths("steps.jsonl")]), study.task, study.model
    )
    (finding,) = [one for one in found if one.text.startswith(QUESTION)]
    return finding.text, *finding.cases


def test_a_line_is_the_mean_of_a_rows_seeds_on_the_groups_that_were_not_taught(relearned: Study) -> None:
    """Seeds 1, 2 and 3 lie at -0.01, 0.02 and -0.03 about a row's level; of `retrained` also 0.04, -0.05.

    Lines with dots are the means, thin ones without the seeds of a trained row.
    """
    (ax,) = build_figure("recovery", Inputs(relearned.paths(*FIGURES["recovery"].needs))).axes
    every = [(line.get_marker(), list(line.get_xdata()), list(line.get_ydata())) for line in ax.lines]
    lines = [(steps, drawn) for marker, steps, drawn in every if marker == "."]
    seeds = [(steps, drawn) for marker, steps, drawn in every if marker != "."]
    assert seeds == [
        (list(JUDGED_AT), pytest.approx([level + off for level in RELEARNED[row]], abs=1e-5))
        for row in RELEARNED
        if row[1] != "none"
        for off in (-0.01, 0.02, -0.03)
    ]
    assert len(lines) == len(RELEARNED)
    for (row, levels), (steps, drawn) in zip(RELEARNED.items(), lines, strict=True):
        moved = (-0.01 + 0.02 - 0.03 + (0.04 - 0.05 if row[0] == "retrained" else 0)) / (
            5 if row[0] == "retrained" else 3
        )
        assert steps == list(JUDGED_AT)
        assert drawn == pytest.approx([level + moved for level in levels], abs=1e-5), row
    (band,) = ax.collections
    heights = band.get_paths()[0].vertices[:, 1]
    assert (heights.min(), heights.max()) == pytest.approx((-4.05, -2.96), abs=1e-5)


def test_the_largest_recovery_stands_beside_that_of_each_stage(relearned: Study) -> None:
    """NPO + Sophia lies 2 above `retrained` at step 6, and 1.5 where the stage ends."""
    table, found = robustness(relearned), numbers(robustness(relearned))
    assert table.columns[-1] == "Largest\u00a0↓"
    assert found["NPO + Sophia", "relearn: forget.recovery"] == pytest.approx(1.5, abs=0.005)
    assert found["NPO + Sophia", "largest: forget.recovery_max"] == pytest.approx(2.0, abs=0.005)
    beyond = "largest: forget.recovery_max_p below 0.05"
    assert [found[row, beyond] for row in ("original", "retrained", "NPO + AdamW", "NPO + Sophia")] == [
        3,
        0,
        0,
        3,
    ]
    assert not any(note.startswith("Largest: not of equally many") for note in table.notes)


def test_the_finding_names_rows_stage_and_step(relearned: Study) -> None:
    text, *cases = said(relearned)
    assert text == (
        f"{QUESTION} 1 of 2 rows recover more than the retrained model does after the same stage, at their "
        "largest over all stages and judged steps; 5 retrained seeds, each left out in turn, tell what a "
        "further one would recover. The other rows were not seen to, which does not show them safe."
    )
    # seed 2 lies 0.02 above its level, the five seeds of `retrained` on average 0.006 below theirs
    assert cases == ["NPO + Sophia: in 3 of 3 seeds, by up to 2.026 nats per token (after relearn, step 6)."]


def test_where_nothing_came_back_that_is_no_safety(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    low = RELEARNED | {("NPO", "sophia"): RELEARNED["NPO", "adamw"]}
    monkeypatch.setattr("tests.reporting.staged.RELEARNED", low)
    (text,) = said(write_relearned(tmp_path / "demo"))
    assert text.startswith(f"{QUESTION} No row was seen to recover more than the retrained model does")
    assert "; 5 retrained seeds, each left out in turn" in text and "another attack may" in text


def test_nothing_is_claimed_without_three_retrained_seeds(tmp_path: Path) -> None:
    study = write_relearned(tmp_path / "demo", retrained_seeds=(), seeds=(1, 2))
    (text,) = said(study)
    assert text.startswith(f"{QUESTION} Nothing is said of it: fewer than three seeds of the retrained model")
    assert numbers(robustness(study))["NPO + Sophia", "largest: forget.recovery_max"] > 1.9


def test_a_row_with_another_sweep_is_named(tmp_path: Path) -> None:
    """Its log was judged after two steps alone: the largest recovery is over fewer places."""
    study = write_relearned(tmp_path / "demo")
    for seed in (1, 2, 3):
        path = study.place("training", "NPO", "sophia", seed).with_name(f"seed{seed}.relearn") / "steps.jsonl"
        without_lines(path, '"step": 6,')
    study.collect()
    notes = [note for note in robustness(study).notes if note.startswith("Largest:")]
    assert notes == [
        "Largest: not of equally many stages and judged steps, but 3 (original, retrained, NPO + AdamW); 2 "
        "(NPO + Sophia)."
    ]


def test_what_is_not_judged_is_named_and_no_row_is_no_error(tmp_path: Path) -> None:
    study = write_relearned(tmp_path / "demo")
    runs = json.loads((study.root / "runs.json").read_text())
    write_json(study.root / "runs.json", [run for run in runs if not run.get("after")])
    for name in ("metrics.csv", "scores.csv"):
        without_lines(study.root / name, ",relearn")
    figure = build_figure("recovery", Inputs(study.paths(*FIGURES["recovery"].needs)))
    assert not figure.axes and "fictitious, tiny (no stage was judged" in figure.get_suptitle()


def test_where_only_anchors_went_through_it_they_have_a_panel(tmp_path: Path) -> None:
    study = write_relearned(tmp_path / "demo")
    runs = json.loads((study.root / "runs.json").read_text())
    kept = [run for run in runs if not (run.get("after") and run["method"] == "NPO")]
    write_json(study.root / "runs.json", kept)
    for path in study.root.rglob("scores.csv"):
        lines = path.read_text().splitlines(keepends=True)
        path.write_text("".join(line for line in lines if not (",NPO," in line and "relearn" in line)))
    lines = (study.root / "metrics.csv").read_text().splitlines(keepends=True)
    kept_lines = [line for line in lines if not (",NPO," in line and line.rstrip().endswith(",relearn"))]
    (study.root / "metrics.csv").write_text("".join(kept_lines))
    (ax,) = build_figure("recovery", Inputs(study.paths(*FIGURES["recovery"].needs))).axes
    assert ax.get_title(loc="left") == "relearn" and len(ax.lines) == 2
