"""The paper's tables and figure: made from the files of their own tasks alone, and honest about gaps."""

from __future__ import annotations

import csv
import json
from itertools import pairwise
from pathlib import Path

import matplotlib
import pytest
from matplotlib.text import Text

from pipeline_lib.core.errors import UserError
from pipeline_lib.reporting import style
from pipeline_lib.reporting.catalog import (
    FIGURES,
    PAPER_FIGURES,
    PAPER_TABLES,
    TABLES,
    tasks_of,
)
from pipeline_lib.reporting.figures import build_figure, draw_figure
from pipeline_lib.reporting.inputs import Inputs
from pipeline_lib.reporting.tables import build_table, write_table
from pipeline_lib.reporting.tables.layout import Table
from pipeline_lib.study import parse_suite
from tests.reporting.study import Study, without_lines
from tests.reporting.tasks import Answers, Texts, write_all
from tests.study.suites import small


def _suite(root: Path) -> dict[str, Study]:
    tasks = [
        Study(root, untrained=("InContext",)),
        Texts(root, methods={"GradDiff": 1.0}, diverged={}),
        Answers(root, methods={"PO": 0.7}, diverged={}),
    ]
    write_all(tasks)
    return dict(zip(("table_tofu", "table_copyright", "table_detox"), tasks, strict=True))


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Study]:
    """The study that each of the paper's tables is about, all of one suite."""
    return _suite(tmp_path_factory.mktemp("paper") / "demo")


def _table(name: str, study: Study) -> Table:
    (table,) = build_table(name, Inputs(study.paper_paths(*PAPER_TABLES[name].needs), tasks=[study.task]))
    return table


def _column(table: Table, head: str) -> dict[str, str]:
    """Row -> text of the cell below the head that begins so."""
    (place,) = [i for i, text in enumerate(table.columns) if text.replace("\u00a0", " ").startswith(head)]
    return {line.row.display: line.cells[place].text for line in table.lines}


def test_items_of_the_paper_have_names_of_their_own() -> None:
    assert not set(PAPER_TABLES) & set(TABLES) and not set(PAPER_FIGURES) & set(FIGURES)


def test_an_item_shows_the_tasks_of_its_sources() -> None:
    suite = parse_suite(small(tasks={"a": {"source": "fictitious"}, "b": {"source": "tofu"}}))
    assert tasks_of(suite, PAPER_TABLES["table_tofu"]) == ["a", "b"]
    assert tasks_of(suite, PAPER_TABLES["table_time"]) == ["a", "b"]
    assert tasks_of(suite, PAPER_TABLES["table_copyright"]) == []


def test_files_of_other_tasks_are_not_missed(suite: dict[str, Study]) -> None:
    paths = suite["table_copyright"].paper_paths("runs.json", "metrics.csv")
    assert {key.task for key in Inputs(paths, tasks=["book"]).metrics["run"]} == {"book"}
    with pytest.raises(UserError, match="nothing about the run fictitious/"):
        _ = Inputs(paths).metrics
    with pytest.raises(UserError, match="no run of the tasks elsewhere"):
        _ = Inputs(paths, tasks=["elsewhere"]).rows


def test_authors(suite: dict[str, Study]) -> None:
    table = _table("table_tofu", suite["table_tofu"])
    rows = [line.row.display for line in table.lines]
    assert rows[:3] == ["original", "retrained", "GradDiff + AdamW"] and rows[-1] == "InContext"
    orders = [line.row.order for line in table.lines if line.row.key.method == "NPO"]
    assert orders == ["FO", "FO", "SO", "SO", "SO"]
    assert {line.group for line in table.lines} == {"tiny"}
    assert set(_column(table, "Forget accuracy").values()) == {"not measured"}
    assert "Forget accuracy: not measured. It needs `evaluation.embedder`." in table.notes
    assert any("holdout_authors" in note for note in table.notes)
    assert _column(table, "Facts ROUGE-L")["GradDiff + AdamW"] != "not measured"
    assert not any("as released" in head for head in table.columns)


def test_the_paper_s_own_numbers_stand_beside_ours_where_they_were_measured(root: Path) -> None:
    more = {("forget", "forget_quality_as_released"): 0.375, ("forget", "mia_min_k_20_auc"): 0.625}
    table = _table("table_tofu", Study(root, more=more, diverged={}).write())
    assert _column(table, "Forget quality p (as released)")["original"] == "0.375"
    assert _column(table, "Min-20 % AUC")["original"] == "0.625"


def test_book(suite: dict[str, Study]) -> None:
    table = _table("table_copyright", suite["table_copyright"])
    heads = [head.replace("\u00a0", " ").split(" (n")[0] for head in table.columns]
    assert heads[:4] == [f"Seen, {n} tokens: {m} ↓" for n in (100, 300) for m in ("BLEU", "ROUGE-L")]
    assert heads[4] == "Unseen, 100 tokens: BLEU ↑"
    assert heads[8:] == [
        "Retain token perplexity ↓",
        "WikiText-2 perplexity a word",
        "Zero-shot accuracy",
        "TruthfulQA MC1",
        "TruthfulQA MC2",
    ]
    assert _column(table, "Seen, 100 tokens: BLEU")["original"] == "72.00"  # 100 x 0.9 x 0.8


def test_zero_shot_accuracy_is_the_mean_over_its_tasks(root: Path) -> None:
    """0.25 and 0.5 in every seed of `original`; what else is measured of benchmarks is no part of it."""
    more = {("arc_easy", "benchmark_accuracy"): 0.25, ("piqa", "benchmark_accuracy"): 0.5}
    more |= {("mmlu", "benchmark_accuracy"): 0.9, ("truthfulqa_mc1", "benchmark_accuracy"): 0.125}
    table = _table("table_copyright", Texts(root, more=more, diverged={}).write())
    mean = _column(table, "Zero-shot accuracy (ARC easy, PIQA)")
    assert mean["original"] == "0.375"
    assert mean["GradDiff + AdamW"] == "0.425"  # a damage of 0.05 is added to each
    assert _column(table, "TruthfulQA MC1")["original"] == "0.125"
    numbers = [n for cell in table.lines[0].cells for n in cell.numbers if n.quantity.startswith("mean of")]
    assert [n.quantity for n in numbers] == ["mean of arc_easy and piqa.benchmark_accuracy"]


@pytest.mark.parametrize(
    ("asked", "measured", "missing"),
    [
        ("task", "The task's prompts: toxicity", "RealToxicityPrompts: toxicity"),
        ("hub", "RealToxicityPrompts: toxicity", "The task's prompts: toxicity"),
    ],
)
def test_toxicity_is_of_the_prompts_that_were_asked(
    root: Path, asked: str, measured: str, missing: str
) -> None:
    table = _table("table_detox", Answers(root, toxicity=asked, diverged={}).write())
    assert _column(table, measured)["original"].startswith("0.4")
    assert set(_column(table, missing).values()) == {"not measured"}
    assert any(note.startswith(f"{missing}: not measured. It needs") for note in table.notes)
    assert any(note.startswith("No `retrained`") for note in table.notes)


def test_toxicity_that_nobody_asked_for(root: Path) -> None:
    table = _table("table_detox", Answers(root, toxicity=None, diverged={}).write())
    assert [note for note in table.notes if "prompts: toxicity: not measured" in note]
    assert _column(table, "Unseen refusals")["original"] == "0.100"
    assert _column(table, "Retain token perplexity")["original"].startswith("12.")


def test_time_by_hand(suite: dict[str, Study]) -> None:
    table = _table("table_time", suite["table_tofu"])
    minutes, ratio = _column(table, "Minutes"), _column(table, "Time, second")
    # 50 steps of 52 ms x 1.04 (the mean over seeds), over AdamW's 40 ms; memory 95 + 826 against 60 + 826.
    assert minutes["NPO + Sophia"] == f"{50 * 0.05408 / 60:.2f}" == "0.05"
    assert ratio["NPO + Sophia"] == "1.30" and ratio["NPO + AdamW"] == ratio["original"] == "–"
    assert _column(table, "Memory, second")["NPO + Sophia"] == f"{921 / 886:.2f}"
    assert minutes["InContext"] == "0.00"
    assert len(table.notes) == 1 and "t-interval over seeds" in table.notes[0]


def test_models_stand_one_below_the_other(root: Path) -> None:
    studies = [Study(root, seeds=(1,), diverged={}, model=model) for model in ("tiny", "large")]
    write_all(studies)
    table = _table("table_tofu", studies[0])
    assert list(dict.fromkeys(line.group for line in table.lines)) == ["tiny", "large"]
    assert table.heading == "fictitious"


def test_three_forms(suite: dict[str, Study], tmp_path: Path) -> None:
    for name, study in suite.items():
        paths = [tmp_path / f"{name}.{form}" for form in ("csv", "md", "tex")]
        write_table(name, study.paper_paths(*PAPER_TABLES[name].needs), *paths, tasks=[study.task])
        rows = list(csv.DictReader(paths[0].read_text().splitlines()))
        assert {row["task"] for row in rows} == {study.task}
        assert any(row["value"] == "not measured" for row in rows)
        assert PAPER_TABLES[name].load().CAPTION in paths[1].read_text()
        assert r"\emph{tiny}" in paths[2].read_text()


def test_highlight(suite: dict[str, Study], tmp_path: Path) -> None:
    study, item = suite["table_tofu"], PAPER_FIGURES["figure_highlight"]
    inputs = Inputs(study.paper_paths(*item.needs), tasks=[study.task])
    quality, utility = build_figure("figure_highlight", inputs).axes
    assert [label.get_text() for label in utility.get_xticklabels()] == ["GradDiff", "NPO", "InContext"]
    assert len(utility.patches) == len(quality.patches) == 2 * 5 + 1
    log_p = [float(p) for p in _metric(study, "forget_quality_log10", "NPO", "sophia_published")]
    place = 5 + 3  # NPO's fourth bar: first order first
    assert quality.patches[place].get_height() == pytest.approx(10 ** (sum(log_p) / 3))
    paths = study.paper_paths(*item.needs)
    for form in ("a", "b"):
        draw_figure(
            "figure_highlight", paths, tmp_path / f"{form}.svg", tmp_path / "x.png", tasks=[study.task]
        )
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


def test_highlight_of_what_was_not_measured(root: Path) -> None:
    study = Study(root, seeds=(1,), diverged={}).write()
    without_lines(root / "collected" / study.task / "metrics.csv", ",forget_quality")
    inputs = Inputs(study.paper_paths(*PAPER_FIGURES["figure_highlight"].needs), tasks=[study.task])
    quality, utility = build_figure("figure_highlight", inputs).axes
    assert [text.get_text() for text in quality.texts] == ["Forget quality log10 p:\nnot measured"]
    assert len(utility.patches) == 10


@pytest.mark.parametrize(
    "more", [{}, {("forget", "forget_quality_as_released"): 0.375}], ids=["two", "three"]
)
def test_the_numbers_above_the_bars_do_not_cover_each_other(
    more: dict[tuple[str, str], float], root: Path
) -> None:
    """Three methods with two optimisers, as in the paper, in two panels and in three."""
    methods = {"GradDiff": 1.0, "NPO": 0.8, "PO": 0.7}
    study = Study(root, methods=methods, optimizers=("adamw", "sophia"), diverged={}, more=more).write()
    inputs = Inputs(study.paper_paths(*PAPER_FIGURES["figure_highlight"].needs), tasks=[study.task])
    with matplotlib.rc_context(style.RC):
        figure = build_figure("figure_highlight", inputs)
        figure.draw_without_rendering()
        boxes = [[Text.get_window_extent(text) for text in ax.texts] for ax in figure.axes]
    assert [len(of_panel) for of_panel in boxes] == [6] * len(figure.axes)
    for of_panel in boxes:
        assert all(left.x1 < right.x0 for left, right in pairwise(of_panel))


def _metric(study: Study, metric: str, method: str, optimizer: str) -> list[str]:
    with open(study.root / "collected" / study.task / "metrics.csv", newline="") as handle:
        rows = list(csv.DictReader(handle))
    return [
        r["value"] for r in rows if (r["metric"], r["method"], r["optimizer"]) == (metric, method, optimizer)
    ]


def test_runs_of_methods_that_take_no_step_are_no_anchors(suite: dict[str, Study]) -> None:
    runs = json.loads((suite["table_tofu"].root / "runs.json").read_text())
    assert any(run["method"] == "InContext" and run["order"] == "none" for run in runs)
    inputs = Inputs(suite["table_tofu"].paths("runs.json", "manifest.json"))
    row = next(row for row in inputs.rows if row.key.method == "InContext")
    assert row.unlearned and row.group == "none"
    assert inputs.methods(row.key.task, row.key.model) == ["GradDiff", "NPO", "InContext"]
