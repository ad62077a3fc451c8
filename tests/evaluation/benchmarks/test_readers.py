"""Questions from local files and from the hub's columns; what is wrong with data is said."""

from __future__ import annotations

import json
import sys
from collections import Counter
from typing import get_args

import pytest

from pipeline_lib.config.evaluation import BenchmarkName
from pipeline_lib.errors import UserError
from pipeline_lib.evaluation.benchmarks import readers
from pipeline_lib.evaluation.benchmarks.documents import Document, wikitext_of_lines, wikitext_pages
from pipeline_lib.evaluation.benchmarks.readers import load_benchmark, load_documents, spread
from pipeline_lib.evaluation.benchmarks.tasks import TASKS
from tests.evaluation.benchmarks.conftest import PAGE, ROWS, SUBJECTS
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
    "mmlu": {"question": "Why?", "subject": "law", "choices": ["so", "thus", "no", "yes"], "answer": 1},
    "truthfulqa_mc1": {
        "question": "Why?",
        "mc1_targets": {"choices": ["so", "thus"], "labels": [0, 1]},
        "mc2_targets": {"choices": ["so", "thus", "hence"], "labels": [0, 1, 1]},
    },
    "truthfulqa_mc2": {
        "question": "Why?",
        "mc1_targets": {"choices": ["so", "thus"], "labels": [0, 1]},
        "mc2_targets": {"choices": ["so", "thus", "hence"], "labels": [0, 1, 1]},
    },
}


def write(folder, name, rows):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(folder)


def test_every_task_is_read_in_order(data_folder, task_name):
    asked = load_benchmark(task_name, folder=str(data_folder))
    rows = 2 if task_name == "wikitext" else len(ROWS[TASKS[task_name].local[-1]])
    assert [question.id for question in asked] == [f"{task_name}-{i:05d}" for i in range(rows)]


def test_the_suite_file_knows_the_same_tasks():
    assert sorted(get_args(BenchmarkName)) == sorted(TASKS)


@pytest.mark.parametrize("name", sorted(HUB_ROWS))
def test_hub_columns(name):
    document = TASKS[name].read_hub(7, name, HUB_ROWS[name])
    labels = {"truthfulqa_mc2": (0, 1, 1), "mmlu": (0, 1, 0, 0)}
    short = ("piqa", "winogrande", "boolq", "boolq_closed_book", "truthfulqa_mc1")
    assert document.labels == labels.get(name, (0, 1) if name in short else (0, 1, 0))
    assert document.id == f"{name}-00007"
    assert document.group == ("law" if name == "mmlu" else document.id)
    assert document.passage == ("A text." if name == "boolq" else "")
    questions = {
        "hellaswag": "Why?: A man runs. The man",
        "winogrande": "Why _ ?",
        "boolq": "is it",
        "boolq_closed_book": "is it",
    }
    assert document.question == questions.get(name, "Why?")


def test_from_the_hub_in_parquet(tmp_path, monkeypatch):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    asked = []

    def hub_file(hub, revision, name):
        asked.append((hub, name))
        rows = [HUB_ROWS["mmlu"] | {"subject": subject} for subject in ("law", "art") for _ in range(3)]
        parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "rows.parquet")
        return tmp_path / "rows.parquet"

    monkeypatch.delenv("PIPELINE_DATA", raising=False)
    monkeypatch.setattr(readers, "hub_file", hub_file)
    documents, examples = load_documents("mmlu", limit=2, shots=2)
    assert [document.group for document in documents] == ["law", "art"]
    assert {group: len(rows) for group, rows in examples.items()} == {"law": 2, "art": 2}
    assert asked == [
        ("cais/mmlu", "all/test-00000-of-00001.parquet"),
        ("cais/mmlu", "all/dev-00000-of-00001.parquet"),
    ]


def test_wikitext_from_the_hub_is_the_file(tmp_path, monkeypatch):
    """The hub's rows are lines; blank ones lost their space there."""
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    lines = (" \n" + PAGE).splitlines(keepends=True)
    rows = [{"text": "" if line == " \n" else line} for line in lines]
    assert wikitext_of_lines(rows) == " \n" + PAGE
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "rows.parquet")
    monkeypatch.delenv("PIPELINE_DATA", raising=False)
    monkeypatch.setattr(readers, "hub_file", lambda *_: tmp_path / "rows.parquet")
    documents, _ = load_documents("wikitext")
    assert [document.question for document in documents] == [PAGE]


def test_without_pyarrow(tmp_path, monkeypatch):
    monkeypatch.delenv("PIPELINE_DATA", raising=False)
    (tmp_path / "rows.parquet").write_bytes(b"PAR1")
    monkeypatch.setattr(readers, "hub_file", lambda *_: tmp_path / "rows.parquet")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(UserError, match="pip install pyarrow"):
        load_documents("piqa")


def test_data_folder_from_the_environment(data_folder, monkeypatch):
    monkeypatch.setenv("PIPELINE_DATA", str(data_folder))
    monkeypatch.setattr(readers, "hub_file", lambda *_: pytest.fail("went to the hub"))
    assert len(load_benchmark("piqa")) == 3


def test_wikitext_is_cut_at_titles_only():
    text = " \n = One = \n = = Part = = \n a = b = c \n = Two = \n end \n"
    assert wikitext_pages(text) == [" = One = \n = = Part = = \n a = b = c ", " = Two = \n end \n"]


def test_real_wikitext_has_its_62_pages():
    pages = wikitext_pages(shared_data("wikitext2/test_raw.txt").read_text())
    assert len(pages) == 62
    assert pages[0].startswith(" = Robert Boulter = \n")


@pytest.mark.parametrize("limit", [1, 4, 7, 11])
def test_limit_is_spread_over_subjects(limit):
    """Groups of 30, 60 and 30 rows, mixed up: each gets its share to within one row."""
    groups = ["law", "art", "art", "physics"] * 30
    documents = [Document(f"q{i}", group, "?") for i, group in enumerate(groups)]
    chosen = spread(documents, limit)
    assert len({document.id for document in chosen}) == limit
    counts = Counter(document.group for document in chosen)
    for group, share in (("law", 0.25), ("art", 0.5), ("physics", 0.25)):
        assert abs(counts[group] - share * limit) < 1


def test_limit_above_the_number_takes_all(data_folder):
    assert len(load_benchmark("piqa", folder=str(data_folder), limit=99)) == 3
    with pytest.raises(UserError, match="at least 1"):
        load_benchmark("piqa", folder=str(data_folder), limit=0)


def test_boolq_with_and_without_passage_are_two_tasks(data_folder, tmp_path):
    with_passage = load_benchmark("boolq", folder=str(data_folder))[0]
    without = load_benchmark("boolq_closed_book", folder=str(data_folder))[0]
    assert with_passage.contexts[0] == "Ice is frozen water.\nQuestion: is ice water?\nAnswer:"
    assert without.contexts[0] == "Question: is ice water?\nAnswer:"
    folder = write(tmp_path, "commonsense/boolq_validation.jsonl", [{"question": "is it", "answer": True}])
    with pytest.raises(UserError, match="boolq_closed_book"):
        load_benchmark("boolq", folder=folder)
    write(tmp_path, "commonsense/boolq_passage_validation.jsonl", [{"question": "is it", "answer": True}])
    with pytest.raises(UserError, match=r"row 1: no field 'passage'"):
        load_benchmark("boolq", folder=folder)


def test_few_shot(data_folder):
    asked = load_benchmark("mmlu", folder=str(data_folder), shots=2)
    assert asked[0].contexts[0].count("Answer:") == 3
    assert [question.group for question in asked] == [s for s in SUBJECTS for _ in range(3)]
    with pytest.raises(UserError, match="between 0 and 5, found 6"):
        load_benchmark("mmlu", folder=str(data_folder), shots=6)
    with pytest.raises(UserError, match="piqa has no example questions"):
        load_benchmark("piqa", folder=str(data_folder), shots=1)


def test_too_few_examples(tmp_path):
    write(tmp_path, "mmlu/test.jsonl", ROWS["mmlu/test.jsonl"])
    folder = write(tmp_path, "mmlu/dev.jsonl", ROWS["mmlu/dev.jsonl"][:8])
    with pytest.raises(UserError, match="at least 5 example questions of 'high_school_physics', found 3"):
        load_benchmark("mmlu", folder=folder, shots=5)


def test_unknown_name_and_missing_data(tmp_path):
    with pytest.raises(UserError, match="did you mean 'hellaswag'"):
        load_benchmark("helaswag", folder=str(tmp_path))
    with pytest.raises(UserError, match=r"expected commonsense/piqa_validation.jsonl in .* Leave the folder"):
        load_benchmark("piqa", folder=str(tmp_path))
    folder = write(tmp_path, "commonsense/piqa_validation.jsonl", [])
    with pytest.raises(UserError, match="found none"):
        load_benchmark("piqa", folder=folder)


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
    ],
)
def test_bad_rows(tmp_path, row, message):
    folder = write(tmp_path, "commonsense/piqa_validation.jsonl", [row])
    with pytest.raises(UserError, match=message):
        load_benchmark("piqa", folder=folder)


def test_wrong_choice_with_the_words_of_the_right_one_is_marked(tmp_path):
    rows = [
        {"question": "Why?", "choices": ["a", "b", "a"], "answer": 0},
        {"question": "Why?", "choices": ["a", "b", "b"], "answer": 0},
    ]
    folder = write(tmp_path, "commonsense/piqa_validation.jsonl", rows)
    assert [question.duplicate for question in load_benchmark("piqa", folder=folder)] == [True, False]


def test_mmlu_needs_four_choices(tmp_path):
    folder = write(
        tmp_path, "mmlu/test.jsonl", [mmlu := ROWS["mmlu/test.jsonl"][0] | {"choices": ["a", "b"]}]
    )
    assert mmlu["answer"] == 0
    with pytest.raises(UserError, match="mmlu-00000: expected 4 choices, found 2"):
        load_benchmark("mmlu", folder=folder)
