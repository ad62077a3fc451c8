"""Which other answers are taught, and what data is refused."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline_lib.core.errors import UserError
from pipeline_lib.data.records import Record
from pipeline_lib.objectives.alternatives import alternative_answers
from tests.objectives.cases import CASES

REFUSALS = ["I don't know.", "I cannot say."]


def records(*answers, alternatives=()):
    rows = (Record(f"r{i}", f"q{i}?", answer, "g") for i, answer in enumerate(answers))
    return [replace(row, alternatives=alternatives) for row in rows]


def of(kind, rows, refusals=REFUSALS, seed=0):
    return alternative_answers(CASES[kind](None), rows, refusals, seed)


def test_where_they_come_from():
    rows = records("a", "b", alternatives=("x", "y"))
    for kind in ("PO", "IdkDPO"):
        assert of(kind, rows) == [tuple(REFUSALS)] * 2
    for kind in ("DPO", "AltPO"):
        assert of(kind, rows, refusals=[]) == [("x", "y")] * 2
    assert of("RandomLabels", rows, refusals=[]) == [("b",), ("a",)]


def test_every_objective_that_learns_alternatives_says_where_they_come_from():
    for kind in CASES:
        objective = CASES[kind](None)
        assert (objective.teaches is None) == (objective.forget_answers == "answer"), kind
    with pytest.raises(ValueError, match="NPO takes no alternatives"):
        of("NPO", records("a"))


@given(st.lists(st.sampled_from("abcdef"), min_size=2, max_size=12), st.integers(0, 9))
def test_random_labels_are_answers_of_others_each_used_once(answers, seed):
    rows = records(*answers)
    most = max(answers.count(answer) for answer in answers)
    if 2 * most > len(answers):
        with pytest.raises(UserError, match=r"RandomLabels .* \d+ of the \d+ records have the same answer"):
            of("RandomLabels", rows, seed=seed)
        return
    found = of("RandomLabels", rows, seed=seed)
    assert found == of("RandomLabels", rows, seed=seed)
    assert all(len(texts) == 1 and texts[0] != row.answer for texts, row in zip(found, rows, strict=True))
    assert sorted(texts[0] for texts in found) == sorted(answers)


def test_random_labels_depend_on_the_seed():
    rows = records(*"abcdefghij")
    assert len({tuple(of("RandomLabels", rows, seed=seed)) for seed in range(5)}) == 5


@pytest.mark.parametrize("kind", ["PO", "IdkDPO"])
def test_a_task_without_refusals_is_refused(kind):
    with pytest.raises(UserError, match=f"{kind} teaches refusals, but the task has none"):
        of(kind, records("a"), refusals=[])


@pytest.mark.parametrize("kind", ["DPO", "AltPO"])
def test_a_record_without_alternatives_is_named(kind):
    rows = [*records("a", alternatives=("x",)), Record("bare", "q?", "b", "g")]
    with pytest.raises(UserError, match=f"{kind} .* forget record 'bare' has no alternatives; give every"):
        of(kind, rows)
    rows[1] = Record("blank", "q?", "b", "g", alternatives=("y", " "))
    with pytest.raises(UserError, match="forget record 'blank' has an empty alternative"):
        of(kind, rows)


@pytest.mark.parametrize("kind", ["DPO", "AltPO", "IdkDPO"])
def test_a_pair_with_equal_sides_is_refused(kind):
    twin = Record("twin", "q?", "I don't  know. ", "g", alternatives=("I don't know.",))
    rows = [*records("a", alternatives=("x",)), twin]
    with pytest.raises(UserError, match=f"{kind}: the forget record 'twin' has its own answer among the alt"):
        of(kind, rows)


def test_refusals_taught_alone_may_equal_an_answer():
    assert of("PO", records("I don't know.")) == [tuple(REFUSALS)]
