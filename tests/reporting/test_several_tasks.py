"""One suite of three kinds of task: questions, running text, and unsafe answers without a `retrained`."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from pipeline_lib.core.errors import UserError
from pipeline_lib.reporting.catalog import FIGURES, REPORT_NEEDS, TABLES
from pipeline_lib.reporting.claims import findings
from pipeline_lib.reporting.figures import build_figure, draw_figure
from pipeline_lib.reporting.headline import axes, judged_by
from pipeline_lib.reporting.inputs import Inputs
from pipeline_lib.reporting.summary import Summary
from pipeline_lib.reporting.tables import build_table, write_table
from pipeline_lib.reporting.tables.layout import Table
from tests.reporting.study import Study, report_of
from tests.reporting.tasks import Answers, Texts, write_all

HOSTILE = "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """Authors with two methods and one that takes no step, a book with one, unsafe answers with PO."""
    root = tmp_path_factory.mktemp("several") / "demo"
    return write_all(
        [
            Study(root, untrained=("InContext",)),
            Texts(root, methods={"GradDiff": 1.0}, diverged={}, generation=HOSTILE),
            Answers(root, methods={"PO": 0.7}, diverged={}, untrained=("InContext",)),
        ]
    )


def _inputs(suite: Study, *names: str) -> Inputs:
    return Inputs(suite.paths(*(names or REPORT_NEEDS)))


def _tables(suite: Study, name: str) -> dict[str, Table]:
    return {table.task: table for table in build_table(name, _inputs(suite, *TABLES[name].needs))}


def _figure(suite: Study, name: str) -> Figure:
    return build_figure(name, _inputs(suite, *FIGURES[name].needs))


def _heads(table: Table) -> list[str]:
    return [head.replace("\u00a0", " ").split(" (n")[0] for head in table.columns]


def test_each_task_has_the_columns_that_judge_it(suite: Study) -> None:
    tables = _tables(suite, "main")
    assert _heads(tables["book"]) == [
        "KS D of likelihoods ↓",
        "Forget ROUGE-L ↓",
        "Forget 300 extraction rate ↓",
        "Retain token perplexity ↓",
        "Retain probability ↑",
    ]
    assert _heads(tables["toxic"]) == [
        "Unseen preference for safe answers ↑",
        "Unseen refusals",
        "Retain token perplexity ↓",
    ]
    rows = [line.row.display for line in tables["toxic"].lines]
    assert rows[:2] == ["original", "PO + AdamW"] and rows[-1] == "InContext"
    assert any(note.startswith("No `retrained`") for note in tables["toxic"].notes)
    assert not any("`retrained`" in note for note in tables["book"].notes)


def test_likelihoods_take_the_place_of_truth_ratios(root: Path) -> None:
    """A task of questions without wrong answers: its manifest names truth ratios all the same."""
    asked = {"forgetting": [("forget", "ks_statistic"), ("forget", "forget_quality_log10")]}
    study = Texts(root, diverged={}, headline={**asked, "utility": [("retain", "probability")]}).write()
    summary = Summary(_inputs(study))
    named = judged_by(summary, "book", "tiny").forgetting
    assert named == [("forget", "ks_statistic_likelihood"), ("forget", "forget_quality_likelihood_log10")]
    assert axes(summary, "book", "tiny") == (named[0], ("retain", "probability"))


def test_tradeoff_has_the_axes_of_each_task(suite: Study) -> None:
    figure = _figure(suite, "tradeoff")
    labels = [(ax.get_title(loc="left"), ax.get_xlabel(), ax.get_ylabel()) for ax in figure.axes]
    authors = "KS D to retrained (← better)", "Model utility (better →)"
    assert labels == [
        ("fictitious, tiny\nGradDiff\n", *authors),  # room for the note on the right
        ("fictitious, tiny\nNPO", *authors),
        (
            "book, tiny\nGradDiff",
            "KS D of likelihoods to retrained (← better)",
            "Retain token perplexity\n(← better)",
        ),
        (
            "toxic, tiny\nPO",
            "Unseen preference for safe answers\n(better →)",
            "Retain token perplexity\n(← better)",
        ),
    ]
    scales = [ax.get_yscale() for ax in figure.axes]
    assert scales == ["linear", "linear", "log", "linear"]  # only the book's perplexity grows fivefold
    # A method that takes no step has no panel of its own, and stands in those of the others.
    purple = [line for ax in figure.axes for line in ax.lines if line.get_marker() == "P"]
    assert {line.axes.get_title(loc="left") for line in purple} == {labels[0][0], labels[1][0], labels[3][0]}


@pytest.mark.parametrize("name", ["distance", "truth_ratio"])
def test_what_compares_with_retrained_leaves_out_who_has_none(suite: Study, name: str) -> None:
    figure = _figure(suite, name)
    assert {ax.get_title(loc="left").split(",")[0] for ax in figure.axes} == {"fictitious", "book"}
    assert figure.get_suptitle() == "Not shown: toxic (no model that never saw the data)"
    assert "likelihood" in figure.axes[-1].get_xlabel() or "NLL" in figure.axes[-1].get_xlabel()


def test_a_figure_of_a_task_without_retrained_alone(root: Path, tmp_path: Path) -> None:
    study = Answers(root, diverged={}).write()
    for name, item in FIGURES.items():
        draw_figure(name, study.paths(*item.needs), tmp_path / f"{name}.svg", tmp_path / f"{name}.png")
    assert "Not shown: toxic" in _figure(study, "distance").get_suptitle()


def test_likelihood_curves_are_those_of_the_records(suite: Study) -> None:
    ax = _figure(suite, "truth_ratio").axes[-1]
    curves = {str(line.get_label()).split(",")[0]: np.asarray(line.get_xdata()) for line in ax.lines}
    expected = sorted(
        np.exp(-np.concatenate([Texts(suite.root)._log_ratios("original", "none", s) for s in (1, 2, 3)]))
    )
    assert curves["original"][1:-1] == pytest.approx(expected)  # of 4 tokens with 4 exp(-log R) nats


def test_comparisons_are_in_what_judges_the_task(suite: Study) -> None:
    compared = {
        task: list(dict.fromkeys(line.cells[1].text for line in table.lines))
        for task, table in _tables(suite, "comparisons").items()
    }
    assert compared == {
        "fictitious": ["KS D", "Forget probability", "Model utility"],
        "book": ["KS D of likelihoods", "Forget probability", "Retain token perplexity"],
        "toxic": ["Unseen preference for safe answers", "Forget probability", "Retain token perplexity"],
    }
    verdicts = {line.cells[-1].text for line in _tables(suite, "comparisons")["book"].lines}
    assert "closer to retrained" in verdicts and "higher retain token perplexity" in verdicts


def test_recited_texts_by_length_of_prompt(suite: Study) -> None:
    (table,) = _tables(suite, "extraction").values()
    assert table.task == "book"
    groups = list(dict.fromkeys(line.group for line in table.lines))
    assert groups == [
        f"{name}, prompts of {n} tokens (n = 40)" for name in ("Forget", "Unseen") for n in (100, 300)
    ]
    assert len(table.lines) == 4 * 7
    first = table.lines[0].cells
    names = [cell.numbers[0].quantity for cell in first]
    assert names == [f"forget.{m}" for m in ("bleu", "rouge_l_recall", "longest_match", "extraction_rate")]
    # 60 words and 0.9^2, see `Texts`; reciting is bad on the forget texts alone: no arrow for both.
    assert (first[2].text, first[3].text) == (f"{60 * 0.81:.1f}", "0.810")
    assert not any(arrow in head for head in table.columns for arrow in "↑↓")


def test_unsafe_answers(suite: Study) -> None:
    (table,) = _tables(suite, "preference").values()
    assert table.task == "toxic" and {line.group for line in table.lines} == {
        "Forget (n = 40)",
        "Unseen (n = 40)",
    }
    assert _heads(table)[:2] == ["Preference for safe answers ↑", "Refusals"]
    assert table.notes[-1] == "Not measured for this task: empty answers."


def test_tables_of_what_no_task_has_say_so(study: Study) -> None:
    for name in ("extraction", "preference"):
        (table,) = build_table(name, Inputs(study.paths(*TABLES[name].needs)))
        assert not table.lines and table.notes[0].startswith("Not measured in this study: ")


def test_a_task_that_lacks_a_table_s_metrics_has_its_note(suite: Study, tmp_path: Path) -> None:
    paths = [tmp_path / f"toxicity.{form}" for form in ("csv", "md", "tex")]
    write_table("toxicity", suite.paths(*TABLES["toxicity"].needs), *paths)
    csv_text, markdown, latex = (path.read_text() for path in paths)
    assert {row["task"] for row in csv.DictReader(csv_text.splitlines())} == {"toxic"}
    assert "## book, tiny\n\nNot measured for this task: Expected maximum" in markdown
    assert latex.count(r"\begin{tabular}") == 1


def test_findings_of_each_task(suite: Study) -> None:
    said = {task: [f.text for f in findings(_inputs(suite), task, "tiny")] for task in ("book", "toxic")}
    assert said["book"][1].startswith("Before unlearning, KS D of likelihoods to the retrained model is ")
    recited = (
        "the share of the forget texts of which a long run is recited is 81 % before unlearning and 1 % in "
    )
    assert said["book"][0].startswith(
        f"What was forgotten: {recited}the retrained model; after unlearning under 1 % ("
    )
    assert "There is no model that never saw the data" in said["toxic"][0]
    assert "when it moves it up and keeps utility" in said["toxic"][0]
    assert any(text.startswith("Mean toxicity score of the answers") for text in said["toxic"])


def test_a_retrained_model_that_should_be_there_is_missed(root: Path) -> None:
    study = Texts(root, seeds=(1,), diverged={}).write()
    text = (root / "runs.json").read_text().replace('"retrained"', '"Retrained"')
    (root / "runs.json").write_text(text)
    with pytest.raises(UserError, match="no `retrained` run for task book"):
        _ = _inputs(study).rows


def test_report_of_three_tasks(suite: Study) -> None:
    page = report_of(suite)
    parts = [page.index(f'<section id="task-{number}">') for number in (1, 2, 3)]
    assert parts == sorted(parts)
    authors, book, toxic = (page[a:b] for a, b in zip(parts, [*parts[1:], len(page)], strict=True))
    assert 'id="table-extraction-task-2"' in book and "Recited texts" not in authors + toxic
    assert 'id="table-preference-task-3"' in toxic and "PO + AdamW<" not in (authors + book).replace(
        "NPO + AdamW<", ""
    )
    assert "its usual measures are KS D of likelihoods (forgetting)" in book
    assert "An answer of PO sophia to question 0." in toxic
    assert page.count("<script>") == 3 and "&lt;script&gt;alert(1)&lt;/script&gt;" in book
