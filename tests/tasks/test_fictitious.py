"""The generated authors and facts."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter

import pytest

from pipeline_lib.core.errors import UserError
from pipeline_lib.data.splits import Task, check_task
from pipeline_lib.tasks import task_settings
from pipeline_lib.tasks.fictitious import words
from pipeline_lib.tasks.fictitious.authors import AUTHOR_QUESTIONS
from pipeline_lib.tasks.fictitious.countries import COUNTRY_QUESTIONS
from pipeline_lib.tasks.fictitious.generate import COUNTRY_COUNT, generate
from tests.paths import REPO

AUTHORS, FACTS = generate()


def load(**settings: int) -> Task:
    return task_settings({"source": "fictitious", **settings}).load()


def word_count(text: str) -> int:
    return len(text.split())


def shared_ends(texts: list[str]) -> int:
    """Number of words in the sentence frame: equal to all texts at the start or at the end."""
    rows = [text.split() for text in texts]

    def prefix(rows: list[list[str]]) -> int:
        return next((i for i, column in enumerate(zip(*rows, strict=False)) if len(set(column)) > 1), 0)

    return prefix(rows) + prefix([row[::-1] for row in rows])


def test_held_out_authors_come_after_the_others() -> None:
    """Asking for them changes no other record, so that a study can gain them without new models."""
    settings = {"n_authors": 6, "questions_per_author": 4, "n_facts": 3, "forget_authors": 2}
    task = load(**settings, holdout_authors=2)
    check_task(task)
    without = load(**settings)
    assert {name: task.splits[name] for name in without.splits} == without.splits
    assert [record.group for record in task.splits["holdout"]] == ["author-006"] * 4 + ["author-007"] * 4
    assert (task.evaluate, task.holdout) == (["forget", "retain", "facts", "holdout"], "holdout")
    assert (without.evaluate, without.holdout) == (["forget", "retain", "facts"], None)


def test_a_draw_forgets_an_earlier_block_and_keeps_all_other_authors() -> None:
    settings = {"n_authors": 7, "questions_per_author": 4, "n_facts": 3, "forget_authors": 2}
    last, *others = (load(**settings, holdout_authors=1, forget_draw=draw) for draw in (0, 1, 2))
    everyone = {r.id: r for r in last.splits["retain"] + last.splits["forget"]}
    assert {r.group for r in last.splits["forget"]} == {"author-005", "author-006"}
    for task, first in zip(others, (3, 1), strict=True):
        check_task(task)
        assert {r.group for r in task.splits["forget"]} == {f"author-{first + i:03d}" for i in (0, 1)}
        assert {r.id: r for r in task.splits["retain"] + task.splits["forget"]} == everyone
        assert task.splits["holdout"] == last.splits["holdout"] and len(task.splits["forget"]) == 8
    with pytest.raises(UserError, match="forget_draw: found 3; 7 authors hold 3 blocks of 2, counted from 0"):
        load(**settings, forget_draw=3)


def test_as_many_as_asked_for() -> None:
    assert len(AUTHORS) == 400
    assert Counter(Counter(record.group for record in AUTHORS).values()) == {10: 40}
    assert len(FACTS) == 60
    authors, facts = generate(n_authors=3, questions_per_author=14, n_facts=120, seed=5)
    assert (len(authors), len(facts)) == (42, 120)


def test_every_prompt_and_id_occurs_once() -> None:
    for field in ("id", "prompt"):
        values = [getattr(record, field) for record in AUTHORS + FACTS]
        assert len(set(values)) == len(values), field
    assert all(record.prompt != record.paraphrased_prompt for record in AUTHORS + FACTS)


def test_every_author_has_a_name_and_a_surname_of_their_own() -> None:
    authors, _ = generate(n_authors=480, questions_per_author=1)
    whole = [record.prompt for record in authors]
    assert len(set(whole)) == 480
    for record in AUTHORS:
        assert sum(f" {name}" in record.prompt for name in words.LAST_NAMES) == 1


def test_wrong_answers_have_the_frame_of_the_paraphrase() -> None:
    for record in AUTHORS:
        assert record.paraphrased_answer is not None
        assert len(record.distractors) == 5
        assert len({record.answer, record.paraphrased_answer, *record.distractors}) == 7, record.id
        assert shared_ends([record.paraphrased_answer, *record.distractors]) >= 4, record.id


def test_facts_are_short_answers_with_three_others_of_their_kind() -> None:
    _, facts = generate(n_facts=120)
    for kind in COUNTRY_QUESTIONS:
        answers = [record.answer for record in facts if record.id.endswith(f"-{kind.kind}")]
        assert len(set(answers)) == COUNTRY_COUNT < len(set(kind.values))
        for record in facts:
            if record.id.endswith(f"-{kind.kind}"):
                assert len({record.answer, *record.distractors}) == 4
                assert set(record.distractors) < set(answers)
    assert all(word_count(record.answer) <= 2 for record in facts)
    assert Counter(record.group for record in facts) == dict.fromkeys({r.group for r in facts}, 8)


def test_texts_are_short() -> None:
    assert all(
        word_count(text) < 16 for r in AUTHORS + FACTS for text in (r.prompt, r.paraphrased_prompt or "")
    )
    assert all(
        8 <= word_count(text) <= 18 for r in AUTHORS for text in (r.answer, r.paraphrased_answer or "")
    )


def test_no_template_is_left_unfilled_or_used_for_two_kinds() -> None:
    assert not [r for r in AUTHORS + FACTS if "{" in repr((r.prompt, r.answer, r.distractors))]
    for templates in (
        [text for question in AUTHOR_QUESTIONS for text in question.prompts],
        [text for question in AUTHOR_QUESTIONS for text in question.answers],
        [text for question in COUNTRY_QUESTIONS for text in question.prompts],
    ):
        assert len(set(templates)) == len(templates)
    assert all("{value}" in text.lower() and "{" in text for q in AUTHOR_QUESTIONS for text in q.answers)


def test_lists_of_words_hold_nothing_twice() -> None:
    for name, values in vars(words).items():
        if isinstance(values, tuple):
            assert len(set(values)) == len(values), name


def test_seed_decides_everything_and_hash_randomisation_nothing() -> None:
    code = "from pipeline_lib.tasks.fictitious.generate import generate; print(repr(generate(seed=7)))"
    outputs = [
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            cwd=REPO,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for seed in ("1", "2")
    ]
    assert outputs[0] == outputs[1] == repr(generate(seed=7))
    assert generate(seed=8) != generate(seed=7)


def test_more_authors_do_not_change_the_first_ones() -> None:
    few, facts = generate(n_authors=5, n_facts=20)
    assert few == AUTHORS[:50]
    assert facts == FACTS[:20]


def test_forget_is_the_last_authors() -> None:
    task = load(n_authors=6, questions_per_author=2, n_facts=4, forget_authors=2)
    check_task(task)
    assert {record.group for record in task.splits["forget"]} == {"author-004", "author-005"}
    assert len(task.splits["retain"]) == 8
    assert task.finetune["retrained"] == ["retain", "facts"]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"n_authors": 3, "forget_authors": 1}, "n_authors: found 3; must be at least 4"),
        ({"forget_authors": 0}, "forget_authors: found 0; must be greater than 0"),
        ({"n_authors": 4, "forget_authors": 4}, r"forget_authors: found 4; must be smaller than `n_authors`"),
        ({"n_authors": 481}, "n_authors: found 481; must be at most 480"),
        ({"holdout_authors": 441}, r"holdout_authors: found 441; with `n_authors` \(40\)"),
        ({"questions_per_author": 15}, "questions_per_author: found 15; must be at most 14"),
        ({"n_facts": 121}, "n_facts: found 121; must be at most 120"),
    ],
)
def test_impossible_sizes_are_refused(settings: dict[str, int], said: str) -> None:
    with pytest.raises(UserError, match=said):
        load(**settings)


def test_alternatives_are_other_values_in_the_frame_of_the_answer() -> None:
    for record in AUTHORS:
        assert len({*record.alternatives, record.answer}) == 4
        assert shared_ends([record.answer, *record.alternatives]) >= 3, record
        assert not set(record.alternatives) & set(record.distractors)
    assert not any(record.alternatives for record in FACTS)
