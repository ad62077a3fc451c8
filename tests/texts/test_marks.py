"""Marks, the language and the checker, on a small page of their own."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.texts.page import Page
from tests.texts.prose import written_like
from tests.texts.tables import Library, TextError

TABLE = "row,quantity,value,low\na,p,0.25,0.1\nb,p,0.5,0.2\nc,p,0.9,0.3\na,q,7,\n"
DEFINITIONS = "\n<!--numbers\nt = t.csv\np = t[quantity=p]\nlevel = 0.4\n-->\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "t.csv").write_text(TABLE)
    (tmp_path / "s.yaml").write_text("tune: {trials: 8}\nseeds: [1, 2]\n")
    return tmp_path


def page(folder: Path, text: str, name: str = "README.md") -> Page:
    return Page(folder / name, Library(), text + DEFINITIONS)


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("p[row=a]", 0.25),
        ("p[row=b].low", 0.2),
        ("p[row=b].'low'", 0.2),
        ("min(p)", 0.25),
        ("max(p.low)", 0.3),
        ("mean(p)", 0.55),
        ("median(p)", 0.5),
        ("sum(p)", 1.65),
        ("count(p)", 3),
        ("count(p[value>level])", 2),
        ("count(p[value>level, row!=c])", 1),
        ("count(p[row=a|b])", 2),
        ("count(t[quantity=*])", 4),
        ("count(t[value=7.0])", 1),
        ("100 * p[row=a] - 1", 24),
        ("p[row=b] / p[row=a]", 2),
        ("1 - (2 - 3) * 2", 3),
        ("-abs(-2)", -2),
        ("round(1234, -2)", 1200),
    ],
)
def test_values(folder: Path, expression: str, value: float) -> None:
    assert page(folder, "").scope.number(expression) == pytest.approx(value, abs=1e-12)


@pytest.mark.parametrize(
    ("expression", "truth"),
    [
        ("min(p) < level", True),
        ("p[row=a] < level < p[row=b]", True),
        ("level > 0.4", False),
        ("level >= 0.1 + 0.3", True),
        ("0.1 + 0.2 == 0.3", True),
        ("min(p) < level and max(p) < level", False),
    ],
)
def test_claims(folder: Path, expression: str, truth: bool) -> None:
    assert page(folder, "").scope.truth(expression) is truth


@pytest.mark.parametrize(
    "expression",
    [
        "p",
        "p[row=d]",
        "min(p[row=d])",
        "nothing",
        "p[row]",
        "p[rows=a]",
        "p[row=a].high",
        "t[quantity=q].low",
        "p[row=a] +",
        "p[row=a] 2",
        "p[row=a] < 1",
        "eval(p)",
        "__import__",
        "level[row=a]",
        "min(level)",
        "p; 1",
    ],
)
def test_what_has_no_value_is_refused(folder: Path, expression: str) -> None:
    with pytest.raises(TextError):
        page(folder, "").scope.number(expression)


def test_settings_of_a_suite_are_rows_too(folder: Path) -> None:
    text = "8<!--=suite[key=tune.trials]--> trials\n\n<!--numbers\nsuite = s.yaml\n-->\n"
    assert not Page(folder / "README.md", Library(), text).faults()


@pytest.mark.parametrize(
    ("printed", "value", "right"),
    [
        ("0.61", 0.6051, "0.61"),
        ("+0.061", 0.0005, "+0.001"),
        ("-0.2", 0.04, "0.0"),
        ("−0.20", -0.311, "−0.31"),
        ("1,198", 12345.6, "12,346"),
        ("3.2e-5", 0.000111, "1.1e-4"),
        ("110000", 1234.4, "1234"),
        ("52", 999.6, "1000"),
        ("six", 2.0, "two"),
        ("Six", 2.0, "Two"),
        ("six", 2.5, "2.5"),
    ],
)
def test_a_number_is_written_as_the_one_before(printed: str, value: float, right: str) -> None:
    assert written_like(printed, value).replace("1,000", "1000") == right


def test_a_right_page_has_no_faults_and_a_wrong_number_is_written_anew(folder: Path) -> None:
    text = "From 0.25<!--=p[row=a]--> to 0.50<!--=p[row=b]-->, two<!--=count(p[value>level])--> rows.\n"
    assert not page(folder, text).faults()
    wrong = page(folder, text.replace("0.50", "0.52"))
    assert ["0.52 stands where p[row=b] is 0.50" in fault for fault in wrong.faults()] == [True]
    assert wrong.rewritten() == text + DEFINITIONS


def test_a_claim_that_does_not_hold_is_a_fault_that_writing_leaves(folder: Path) -> None:
    wrong = page(folder, "None is below the level.<!--holds min(p) > level-->\n")
    assert len(wrong.faults()) == 1
    assert wrong.rewritten() == wrong.text


def test_a_table_is_the_rows_of_a_file(folder: Path) -> None:
    text = "<!--table p[row!=c]-->\n| row | value |\n|---|---|\n| a | 0.25 |\n| b | 0.5 |\n"
    assert not page(folder, text).faults()
    for wrong in (text.replace("0.5 ", "0.6 "), text.replace("| a | 0.25 |\n", "")):
        assert page(folder, wrong).faults()
        assert page(folder, wrong).rewritten() == text + DEFINITIONS
    assert page(folder, text.replace("| value", "| other")).faults()


@pytest.mark.parametrize(
    "text",
    [
        "it reaches 0.42",
        "it reaches **0.42**",
        "it reaches `0.42`",
        "it reaches `D 0.42`",
        "it reaches `D: 0.42`",
        "- within 3e-5 of it",
        "12 % of them",
        "12% of them",
        "1,198 words",
        "three rows, 52 of 75 of them",
        "9 times as fast",
        "it takes 40 MiB",
        "after 12 minutes",
        "D=0.42",
        "<!-- a remark -->0.42",
        "0.42 <!--=min(p)-->",
        "0.42<!--=0.42-->",
        "0.40<!--=level-->",
        "none<!--holds 1 < 2-->",
        "of all\n<!--holds min(p) < 1--> of them",
        "    0.42 by a program",
        "```\n0.42\n```",
        "| a | 0.42 |\n|---|---|\n",
        "<!--settings 0.42: none-->\nit reaches 0.42\n",
    ],
)
def test_a_result_without_a_source_is_a_fault(folder: Path, text: str) -> None:
    assert page(folder, text + "\n").faults()


@pytest.mark.parametrize(
    "text",
    [
        "Python 3.11 to 3.13 and torch 2.13, arXiv 2404.18239",
        "[a page](docs/3.14.md), https://example.org/0.5",
        "`learning_rate: 1.0e-4` and `{kind: pruned, sparsity: 0.5}`",
        "`python -m x --rate 0.5`",
        "95 % intervals, TPR at 1 % FPR",
        "OPT-1.3B, Llama 3.2, Apache 2.0",
        "```yaml\nlearning_rate: 0.1\n```",
        "5 seeds, 40 questions",
    ],
)
def test_what_is_no_result_needs_no_mark(folder: Path, text: str) -> None:
    assert not page(folder, text + "\n").faults()


def test_settings_and_printed_output_are_let_through_in_docs_alone(folder: Path) -> None:
    text = (
        "<!--settings 0.1 2e-5: rates-->\n| a | 0.1 |\n|---|---|\n| b | 2e-5 |\n\n    step 5, loss=5.402\n\n"
    )
    assert not page(folder, text, "guide.md").faults()
    assert page(folder, text).faults()
    assert page(folder, text + "it reaches 0.42\n", "guide.md").faults()
    assert page(folder, text.replace("| b |", "| 0.42 |"), "guide.md").faults()
    assert page(folder, text.replace(" 2e-5:", " 2e-5 3e-5:"), "guide.md").faults()
    assert page(folder, "## Measured\n\n" + text, "guide.md").faults()


@pytest.mark.parametrize("mark", ["<!-- =p-->", "<!--=p-->", "<!--remark-->", "<!--hold p < 1-->"])
def test_a_comment_that_marks_nothing_is_a_fault(folder: Path, mark: str) -> None:
    assert page(folder, f"of all {mark}\n").faults()


def test_a_definition_is_made_once_and_can_be_read(folder: Path) -> None:
    assert page(folder, "<!--numbers\np = 1\n-->\n").faults()
    assert page(folder, "<!--numbers\nno definition\n-->\n").faults()
