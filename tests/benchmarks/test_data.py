"""Questions from local files and from the hub's columns; what is wrong with data is said."""

from __future__ import annotations

import json
from collections import Counter
from typing import get_args

import pyarrow
import pytest
from pyarrow import parquet

from pipeline_lib.benchmarks import data
from pipeline_lib.benchmarks.data import examples, questions, spread
from pipeline_lib.benchmarks.harness import members
from pipeline_lib.benchmarks.tasks import TASKS, wikitext_of_lines, wikitext_pages
from pipeline_lib.core.errors import UserError
from pipeline_lib.study.evaluation import BenchmarkName
from tests.benchmarks.conftest import PAGE, ROWS, asking
from tests.paths import shared_data

HUB_ROWS = {
    "arc_easy": {
        "id": "x",
        "question": "Why?",
        "choices": {"text": ["so", "thus", "no"], "label": ["1", "2", "3"]},
        "answerKey": "2",
    },
    "openbookqa": {
        "question_stem": "Why?",
        "choices": {"text": ["so", "thus", "no"], "label": ["A", "B", "C"]},
        "answerKey": "B",
    },
    "hellaswag": {
        "activity_label": "Why?",
        "ctx_a": "A man runs.",
        "ctx_b": "the man",
        "endings": ["so", "thus", "no"],
        "label": "1",
    },
    "piqa": {"goal": "Why?", "sol1": "so", "sol2": "thus", "label": 1},
    "winogrande": {"sentence": "Why _ ?", "option1": "so", "option2": "thus", "answer": "2"},
    "boolq": {"passage": "A text.", "question": "is it", "label": 1, "idx": 0},
    "boolq_closed_book": {"passage": "A text.", "question": "is it", "label": 1, "idx": 0},
    "mmlu": {"question": "Why?", "subject": "anatomy", "choices": ["so", "thus", "no", "yes"], "answer": 1},
    "truthfulqa_mc1": {
        "question": "Why?",
        "mc1_targets": {"choices": ["so", "thus"], "labels": [1, 0]},
        "mc2_targets": {"choices": ["so", "thus", "hence"], "labels": [0, 1, 1]},
    },
    "truthfulqa_mc2": {
        "question": "Why?",
        "mc1_targets": {"choices": ["so", "thus"], "labels": [1, 0]},
        "mc2_targets": {"choices": ["so", "thus", "hence"], "labels": [0, 1, 1]},
    },
}


def write(folder, name, rows):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(folder)


def from_the_hub(folder, monkeypatch, rows):
    """The hub serves these rows for every file; what was asked of it."""
    served = []

    def hub_file(hub, revision, name):
        served.append((hub, name))
        parquet.write_table(pyarrow.Table.from_pylist(rows), folder / "rows.parquet")
        return folder / "rows.parquet"

    monkeypatch.delenv("PIPELINE_DATA", raising=False)
    monkeypatch.setattr(data, "hub_file", hub_file)
    return served


def test_every_task_is_read(data_folder, task_name):
    rows = 2 if task_name == "wikitext" else len(ROWS[TASKS[task_name].local[-1]])
    assert len(questions(task_name, str(data_folder))) == rows


def test_the_suite_file_knows_the_same_tasks():
    assert sorted(get_args(BenchmarkName)) == sorted(TASKS)


@pytest.mark.parametrize("name", sorted(HUB_ROWS))
def test_hub_columns_go_to_lm_eval_as_they_are(tmp_path, monkeypatch, name):
    from_the_hub(tmp_path, monkeypatch, [HUB_ROWS[name]])
    (row,) = questions(name, None)
    assert row == HUB_ROWS[name]
    labels = {"truthfulqa_mc1": [1, 0], "truthfulqa_mc2": [0, 1, 1], "mmlu": [0, 1, 0, 0]}
    short = ("piqa", "winogrande", "boolq", "boolq_closed_book")
    assert list(TASKS[name].question(row).labels) == labels.get(name, [0, 1] if name in short else [0, 1, 0])
    (member,) = members(name, asking(None, name))
    assert len(member.task.eval_docs) == 1


def test_from_the_hub_in_parquet(tmp_path, monkeypatch):
    rows = [HUB_ROWS["mmlu"] | {"subject": subject} for subject in ("virology", "anatomy") for _ in range(3)]
    served = from_the_hub(tmp_path, monkeypatch, rows)
    assert [row["subject"] for row in questions("mmlu", None)] == ["virology"] * 3 + ["anatomy"] * 3
    shots = examples("mmlu", None, 2, {"virology", "anatomy"})
    assert {subject: len(rows) for subject, rows in shots.items()} == {"virology": 2, "anatomy": 2}
    assert served == [
        ("cais/mmlu", "all/test-00000-of-00001.parquet"),
        ("cais/mmlu", "all/dev-00000-of-00001.parquet"),
    ]


def test_wikitext_from_the_hub_is_the_file(tmp_path, monkeypatch):
    """The hub's rows are lines; blank ones lost their space there."""
    lines = (" \n" + PAGE).splitlines(keepends=True)
    rows = [{"text": "" if line == " \n" else line} for line in lines]
    assert wikitext_of_lines(rows) == " \n" + PAGE
    from_the_hub(tmp_path, monkeypatch, rows)
    assert questions("wikitext", None) == [{"page": PAGE}]


def test_data_folder_from_the_environment(data_folder, monkeypatch):
    monkeypatch.setenv("PIPELINE_DATA", str(data_folder))
    monkeypatch.setattr(data, "hub_file", lambda *_: pytest.fail("went to the hub"))
    assert len(questions("piqa", None)) == 3


def test_wikitext_is_cut_at_titles_only():
    text = " \n = One = \n = = Part = = \n a = b = c \n = Two = \n end \n"
    assert wikitext_pages(text) == [" = One = \n = = Part = = \n a = b = c ", " = Two = \n end \n"]


def test_real_wikitext_has_its_62_pages():
    pages = wikitext_pages(shared_data("wikitext2/test_raw.txt").read_text())
    assert len(pages) == 62
    assert pages[0].startswith(" = Robert Boulter = \n")


@pytest.mark.parametrize("limit", [1, 4, 7, 11])
def test_limit_is_spread_over_subjects(limit):
    """Groups of 30, 60 and 30 questions: each gets its share to within one of them."""
    groups = ["law"] * 30 + ["art"] * 60 + ["physics"] * 30
    chosen = spread(len(groups), limit)
    assert len(set(chosen)) == limit
    counts = Counter(groups[number] for number in chosen)
    for group, share in (("law", 0.25), ("art", 0.5), ("physics", 0.25)):
        assert abs(counts[group] - share * limit) < 1


def test_the_questions_that_a_limit_chooses_are_always_the_same():
    assert spread(10, 3) == [1, 5, 8]
    assert spread(3, 99) == spread(3, None) == [0, 1, 2]


def test_boolq_with_and_without_passage_are_two_tasks(data_folder, tmp_path):
    assert questions("boolq", str(data_folder))[0]["passage"] == "Ice is frozen water."
    assert questions("boolq_closed_book", str(data_folder))[0]["passage"] == ""
    folder = write(tmp_path, "commonsense/boolq_validation.jsonl", [{"question": "is it", "answer": True}])
    with pytest.raises(UserError, match="boolq_closed_book"):
        questions("boolq", folder)
    write(tmp_path, "commonsense/boolq_passage_validation.jsonl", [{"question": "is it", "answer": True}])
    with pytest.raises(UserError, match=r"row 1: no field 'passage'"):
        questions("boolq", folder)


def test_too_few_examples(tmp_path):
    write(tmp_path, "mmlu/test.jsonl", ROWS["mmlu/test.jsonl"])
    folder = write(tmp_path, "mmlu/dev.jsonl", ROWS["mmlu/dev.jsonl"][:8])
    with pytest.raises(UserError, match="at least 5 example questions of 'high_school_physics', found 3"):
        members("mmlu", asking(folder, mmlu_shots=5))


def test_missing_data(tmp_path):
    with pytest.raises(UserError, match=r"expected commonsense/piqa_validation.jsonl in .* Leave the folder"):
        questions("piqa", str(tmp_path))
    folder = write(tmp_path, "commonsense/piqa_validation.jsonl", [])
    with pytest.raises(UserError, match="found none"):
        questions("piqa", folder)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"question": "Why?", "choices": ["a"], "answer": 0}, "at least two choices"),
        ({"question": "Why?", "choices": ["a", " "], "answer": 0}, "a choice is empty"),
        (
            {"question": "Why?", "choices": ["a", "b"], "answer": 2},
            "right answer is choice 2, but there are 2",
        ),
        ({"question": "  ", "choices": ["a", "b"], "answer": 1}, "question is empty"),
        ({"question": "Why?", "answer": 1}, "no field 'choices'"),
        ({"question": None, "choices": ["a", "b"], "answer": 1}, "row 1: no field 'question'"),
        ({"question": "Why?", "choices": ["a", 5], "answer": 1}, "row 1: .*int.* has no attribute"),
    ],
)
@pytest.mark.parametrize("name", ["arc_easy_test", "openbookqa_test"])
def test_bad_rows(tmp_path, name, row, message):
    folder = write(tmp_path, f"commonsense/{name}.jsonl", [row])
    with pytest.raises(UserError, match=message):
        questions(name.removesuffix("_test"), folder)


@pytest.mark.parametrize(
    ("name", "file", "row", "message"),
    [
        ("mmlu", "mmlu/test", ROWS["mmlu/test.jsonl"][0] | {"subject": "alchemy"}, "'alchemy' is none of"),
        ("mmlu", "mmlu/test", ROWS["mmlu/test.jsonl"][0] | {"choices": ["a", "b"]}, "4 choices, found 2"),
        (
            "piqa",
            "commonsense/piqa_validation",
            {"question": "?", "choices": ["a"] * 3},
            "2 choices, found 3",
        ),
        (
            "winogrande",
            "commonsense/winogrande_validation",
            {"question": "No blank.", "choices": ["a", "b"], "answer": 0},
            "a sentence with a blank",
        ),
        (
            "hellaswag",
            "commonsense/hellaswag_validation",
            {"ctx": "No activity", "endings": ["a", "b"], "answer": 0},
            "a colon and the context",
        ),
        (
            "truthfulqa_mc1",
            "truthfulqa/mc",
            {"question": "?", "mc1_choices": ["a", "b"], "mc1_label": 1},
            "the first choice to be right",
        ),
    ],
)
def test_rows_that_a_task_cannot_ask(tmp_path, name, file, row, message):
    folder = write(tmp_path, f"{file}.jsonl", [row])
    with pytest.raises(UserError, match=f"row 1: .*{message}"):
        questions(name, folder)


def test_wrong_choice_with_the_words_of_the_right_one_is_marked(tmp_path):
    rows = [
        {"question": "Why?", "choices": ["a", "b", "a"], "answer": 0},
        {"question": "Why?", "choices": ["a", "b", "b"], "answer": 0},
    ]
    folder = write(tmp_path, "commonsense/arc_easy_test.jsonl", rows)
    read = questions("arc_easy", folder)
    assert [TASKS["arc_easy"].question(row).has_duplicate for row in read] == [True, False]
