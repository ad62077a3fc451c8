"""The generated requests with rude and polite answers."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter

import pytest

from pipeline_lib.core.errors import UserError
from pipeline_lib.data.overlap import measure_overlap
from pipeline_lib.data.splits import Task, check_task
from pipeline_lib.tasks import task_settings
from pipeline_lib.tasks.manners import words
from pipeline_lib.tasks.manners.generate import (
    MOST_QUESTIONS,
    MOST_REQUESTS,
    labelled_answers,
    questions,
    requests,
)
from tests.paths import REPO

SIZES = {"n_forget": 40, "n_unseen": 20, "holdout": 10, "n_retain": 80}


def load(**settings: int) -> Task:
    return task_settings({"source": "manners", **settings}).load()


TASK = load(**SIZES, seed=0)
POLITE = (*words.POLITE_OPENINGS, *words.POLITE_ENDS)
RUDE = (*words.RUDE_OPENINGS, *words.RUDE_ENDS)


def test_the_task_is_whole() -> None:
    check_task(TASK)
    sizes = {name: len(records) for name, records in TASK.splits.items()}
    assert sizes == {"forget": 40, "unseen": 20, "retain": 80, "holdout": 10}
    assert TASK.finetune == {"target": ["forget", "retain"], "retrained": ["retain"]}
    assert (TASK.holdout, TASK.preference) == ("holdout", ["forget", "unseen"])
    settings = task_settings({"source": "manners", **SIZES})
    assert list(settings.evaluated_splits()) == TASK.evaluate
    assert settings.load() == TASK
    assert load(**{**SIZES, "holdout": 0}, seed=0).holdout is None
    assert TASK.judged_by()["forgetting"][0] == ("unseen", "safe_preference")
    assert {split for side in TASK.judged_by().values() for split, _ in side} <= set(TASK.evaluate)


def test_every_request_has_a_rude_answer_and_two_polite_ones() -> None:
    for name in ("forget", "unseen", "holdout"):
        for record in TASK.splits[name]:
            errand = record.group.replace("-", " ")
            assert errand in words.ERRANDS
            assert errand in record.prompt
            assert record.answer.startswith(RUDE)
            assert record.answer.endswith(RUDE)
            (scored,), (taught,) = record.distractors, record.alternatives
            for polite in (scored, taught):
                assert polite.startswith(POLITE)
                assert polite.endswith(POLITE)
                assert errand in polite
            assert scored != taught
    for record in TASK.splits["retain"]:
        assert record.answer.startswith(POLITE)
        assert record.answer.endswith(POLITE)
        assert not record.distractors


def test_an_errand_is_asked_twice_and_both_times_in_one_split() -> None:
    groups = {name: {record.group for record in records} for name, records in TASK.splits.items()}
    for name in ("forget", "unseen", "holdout"):
        assert set(Counter(record.group for record in TASK.splits[name]).values()) == {2}
        for other in groups.keys() - {name}:
            assert not groups[name] & groups[other]
    assert len(groups["retain"]) == 80
    everything = [record for records in TASK.splits.values() for record in records]
    for field in ("id", "prompt"):
        values = [getattr(record, field) for record in everything]
        assert len(set(values)) == len(values), field
    assert measure_overlap(TASK.splits["forget"], TASK.splits["retain"]).share < 0.01


def test_answers_vary() -> None:
    """Intervals over equal answers would mean nothing."""
    answers = {record.answer for record in TASK.splits["forget"]}
    assert len(answers) == 40
    assert len({answer.split(".")[0] for answer in answers}) > 8


def test_sizes_change_no_other_record() -> None:
    small = load(n_forget=11, n_unseen=5, holdout=3, n_retain=7, seed=0)
    assert small.splits["forget"] == TASK.splits["forget"][:11]
    assert small.splits["unseen"] == TASK.splits["unseen"][:5]
    assert small.splits["retain"] == TASK.splits["retain"][:7]
    assert len(small.splits["holdout"]) == 3
    assert not {r.group for r in small.splits["holdout"]} & {r.group for r in small.splits["unseen"]}


def test_the_seed_decides_and_nothing_else() -> None:
    program = (
        "import hashlib; from pipeline_lib.tasks import task_settings\n"
        f"task = task_settings({ {'source': 'manners', **SIZES, 'seed': 0}!r}).load()\n"
        "print(hashlib.sha256(repr(task).encode()).hexdigest())"
    )
    environment = {**os.environ, "PYTHONPATH": str(REPO)}
    said = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**environment, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(said) == 1
    other = load(**SIZES, seed=1)
    assert {r.group for r in other.splits["forget"]} != {r.group for r in TASK.splits["forget"]}
    assert other.splits["retain"] != TASK.splits["retain"]


def test_everything_that_there_is_can_be_asked_for() -> None:
    task_settings(
        {"source": "manners", "n_forget": MOST_REQUESTS - 2, "n_unseen": 1, "n_retain": MOST_QUESTIONS}
    ).load()
    assert len(questions(MOST_QUESTIONS, 3)) == MOST_QUESTIONS


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"n_forget": MOST_REQUESTS, "n_unseen": 1},
            r"n_forget: .*at most 200, in pairs; found 200, 1 and 0",
        ),
        ({"n_forget": 180, "n_unseen": 11, "holdout": 9}, "n_forget: .*found 180, 11 and 9"),
        ({"n_retain": MOST_QUESTIONS + 1}, "n_retain: found 101; must be at most 100"),
        ({"n_unseen": 0}, "n_unseen: found 0; must be greater than 0"),
    ],
)
def test_more_than_there_is_is_refused_with_the_suite(settings, message) -> None:
    with pytest.raises(UserError, match=message):
        task_settings({"source": "manners", **settings})


def test_rude_answers_are_the_positive_texts():
    found = labelled_answers(3)
    rude = {record.answer for record in requests(words.ERRANDS, MOST_REQUESTS, 3)}
    assert [int(text in rude) for text in found.texts] == found.labels
    assert set(found.labels) == {0, 1} and len(found.groups) == len(found.texts)
