"""Further tasks of lm-evaluation-harness by name: rows, where their data come from, what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import datasets
import lm_eval
import pytest

from pipeline_lib.benchmarks import definitions
from pipeline_lib.benchmarks.data import files_at_hand
from pipeline_lib.benchmarks.definitions import check_data, definition
from pipeline_lib.benchmarks.harness import evaluate_benchmarks
from pipeline_lib.benchmarks.harness_model import EngineLM
from pipeline_lib.core.errors import UserError
from tests.benchmarks.conftest import asking

COMMIT = "a" * 40
LAMBADA = [{"text": "The river was long and the bank was wide"}, {"text": "Ada wrote a book"}]
SUMS = [{"question": f"What is {i} + 1?", "answer": f"One more. #### {i + 1}"} for i in range(3)]
SCIENCE = {"question": "Why?", "support": "", "correct_answer": "so"} | {
    f"distractor{i}": word for i, word in enumerate(("no", "thus", "hence"), start=1)
}


@pytest.fixture
def folder(tmp_path) -> Path:
    files = {
        "lambada_openai/test": LAMBADA,
        "gsm8k/test": SUMS,
        "gsm8k/train": SUMS * 2,
        "sciq/test": [SCIENCE],
    }
    for name, rows in files.items():
        path = tmp_path / "lm_eval" / f"{name}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


def run(tiny, asked, work_dir):
    model, tokenizer, _ = tiny
    lm = EngineLM(model, tokenizer, max_tokens_per_batch=4096, progress=False, max_length=600)
    return evaluate_benchmarks(lm, asked, work_dir, "weights")


def test_a_last_word_from_a_local_file(tiny, folder, tmp_path):
    asked = asking(folder, lm_eval={"lambada_openai": None})
    rows = run(tiny, asked, tmp_path / "work")
    assert [row["id"] for row in rows] == ["lambada_openai-00000", "lambada_openai-00001"]
    for row in rows:
        assert row["correct"] in (0, 1) and row["correct_norm"] is None
        (nll,) = row["choice_nll"]
        assert nll > 0 and "right" not in row
    assert list(files_at_hand(asked)) == ["lm_eval/lambada_openai/test.jsonl"]


def test_several_choices_with_both_accuracies(tiny, folder, tmp_path):
    (row,) = run(tiny, asking(folder, lm_eval={"sciq": None}), tmp_path / "work")
    assert len(row["choice_nll"]) == 4 and row["correct_norm"] in (0, 1)
    assert row["right"] == SCIENCE["correct_answer"]


def test_written_answers(tiny, folder, tmp_path):
    """gsm8k reads an answer in two ways; the row has the first."""
    rows = run(tiny, asking(folder, lm_eval={"gsm8k": None}, limit=1), tmp_path / "work")
    assert [row["id"] for row in rows] == ["gsm8k-00001"]
    assert rows[0]["correct"] == 0 and isinstance(rows[0]["answer"], str)


def test_data_of_the_hub_are_pinned(tiny, tmp_path, monkeypatch):
    loaded = []

    def load_dataset(**given):
        loaded.append(given)
        return datasets.DatasetDict({"test": datasets.Dataset.from_list(LAMBADA)})

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    monkeypatch.delenv("PIPELINE_DATA", raising=False)
    rows = run(tiny, asking(None, lm_eval={"lambada_openai": COMMIT}, limit=1), tmp_path)
    assert [row["id"] for row in rows] == ["lambada_openai-00001"]
    assert loaded == [{"path": "EleutherAI/lambada_openai", "name": "default", "revision": COMMIT}]


def test_what_the_hub_says_is_a_message(tiny, tmp_path, monkeypatch):
    def load_dataset(**_):
        raise ConnectionError("no network")

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    with pytest.raises(UserError, match=r"benchmark lambada_openai: .* cannot load it: no network"):
        run(tiny, asking(tmp_path, lm_eval={"lambada_openai": COMMIT}), tmp_path)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("lambada_opena", "no task 'lambada_opena'; did you mean 'lambada_openai'"),
        ("mmlu", "a group of lm-evaluation-harness; name its tasks: mmlu_stem, mmlu_other,"),
        ("squadv2", "is a program of its own"),
        ("ruler_vt", "makes its data by a program"),
        ("humaneval", "runs what the model writes"),
        ("truthfulqa_gen", "measures bleu_max, .*; supported are tasks that measure one of acc, exact_match"),
    ],
)
def test_refused(name, message):
    with pytest.raises(UserError, match=message):
        definition(name)


def test_data_that_cannot_be_had(folder):
    """gsm8k shows examples of its training split; the others need the split that is judged."""
    (folder / "lm_eval/gsm8k/train.jsonl").unlink()
    with pytest.raises(UserError, match=r"expected lm_eval/gsm8k/train.jsonl \(or .parquet\) in the folder"):
        check_data("gsm8k", asking(folder, lm_eval={"gsm8k": None}))
    (folder / "lm_eval/gsm8k/test.jsonl").unlink()
    with pytest.raises(
        UserError, match=r"gsm8k/test.jsonl .* and .*train.jsonl .* data set openai/gsm8k on the"
    ):
        check_data("gsm8k", asking(folder, lm_eval={"gsm8k": None}))
    check_data("gsm8k", asking(folder, lm_eval={"gsm8k": COMMIT}))


def test_definitions_come_from_the_package_alone(folder, tmp_path, monkeypatch):
    """A file of the name in the working folder or in the folder of data is no definition."""
    (folder / "lm_eval" / "own.yaml").write_text("task: own_task\ndoc_to_text: !function evil.run\n")
    monkeypatch.chdir(folder)
    with pytest.raises(UserError, match="no task 'own_task'"):
        definition("own_task")
    package = Path(lm_eval.__file__).parent
    assert all(package in place.parents for place in definitions._folders().values())
