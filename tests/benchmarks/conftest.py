"""The tests of the engine lend their model; a data folder has a few questions of every benchmark."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipeline_lib.benchmarks.data import Asked
from pipeline_lib.benchmarks.tasks import TASKS
from tests.engine.conftest import records, tiny

__all__ = ["data_folder", "records", "tiny"]


def asking(folder, *tasks: str, **changes) -> Asked:
    """These tasks from a local folder, every question of them."""
    settings = {
        "tasks": tasks,
        "lm_eval": {},
        "limit": None,
        "mmlu_shots": 0,
        "folder": folder and str(folder),
    }
    return Asked(**settings | changes)


SUBJECTS = ("anatomy", "high_school_physics")
PAGE = (
    ' = Lake = \n \n The lake , 3 @,@ 000 years old , is " deep " . \n \n'
    " = = Shore = = \n \n It 's flat ( mostly ) . \n"
)


def mmlu_row(subject: str, i: int) -> dict:
    words = ["cat", "dog", "cow", "bee"]
    return {
        "subject": subject,
        "question": f" Which animal is number {i} of {subject}? ",
        "choices": words[i % 4 :] + words[: i % 4],
        "answer": i % 4,
    }


def question(i: int, **changes) -> dict:
    choices = ["a small stone", "the whole river bank", "rain"][: 2 + i % 2]
    return {"question": f"What lies at place {i}?", "choices": choices, "answer": i % 2} | changes


ROWS = {
    "mmlu/test.jsonl": [mmlu_row(subject, i) for subject in SUBJECTS for i in range(3)],
    "mmlu/dev.jsonl": [mmlu_row(subject, 10 + i) for subject in SUBJECTS for i in range(5)],
    "commonsense/arc_challenge_test.jsonl": [question(i) for i in range(4)],
    "commonsense/arc_easy_test.jsonl": [question(i + 4) for i in range(4)],
    "commonsense/boolq_passage_validation.jsonl": [
        {"passage": "Ice is frozen water.", "question": "is ice water?", "answer": True},
        {"passage": "Sand is dry.", "question": "is sand wet", "answer": False},
    ],
    "commonsense/boolq_validation.jsonl": [{"question": "is ice water?", "answer": True}],
    "commonsense/hellaswag_validation_2000.jsonl": [
        {
            "ctx": f"Running: [header] A man  runs [title] Then number {i}",
            "endings": ["falls [step] down.", "wins.", "sings a song.", "stops."],
            "answer": 3 - i,
        }
        for i in range(3)
    ],
    "commonsense/openbookqa_test.jsonl": [question(i + 8) for i in range(3)],
    "commonsense/piqa_validation.jsonl": [
        question(i, choices=["use glue", "use a hammer and nails"]) for i in range(3)
    ],
    "commonsense/winogrande_validation.jsonl": [
        {"question": "Ada helped Bo because _ was tired.", "choices": ["Ada", "Bo"], "answer": 1},
        {"question": "_ left, said the others.", "choices": ["Cy", "The cat"], "answer": 0},
    ],
    "truthfulqa/mc.jsonl": [
        {
            "question": f"Is it true {i}?",
            "mc1_choices": ["No", "Yes", "Maybe so"],
            "mc1_label": 0,
            "mc2_choices": ["No", "Not at all", "Yes", "Maybe so"],
            "mc2_labels": [1, 1, 0, 0],
        }
        for i in range(3)
    ],
}


@pytest.fixture(scope="session")
def data_folder(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("benchmark-data")
    for name, rows in ROWS.items():
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    (root / "wikitext2").mkdir()
    (root / "wikitext2/test_raw.txt").write_text(f" \n{PAGE} \n{PAGE.replace('Lake', 'Sea')}")
    return root


@pytest.fixture(params=list(TASKS))
def task_name(request) -> str:
    return request.param
