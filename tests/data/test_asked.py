"""Questions asked in another way: by hand, and what must never change."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline_lib.core.errors import UserError
from pipeline_lib.core.grouping import taught_groups
from pipeline_lib.data.asked import Way, read_phrasings, ways_of
from pipeline_lib.data.records import Record, read_records, write_records
from pipeline_lib.data.splits import check_split, of_first_groups
from pipeline_lib.stages.base import STAGES

ADA = Record(
    "a1",
    "Where was Ada born?",
    "Ada was born  in London.",
    "ada",
    paraphrased_prompt="Which city is Ada's birthplace?",
    paraphrased_answer="She came from London town.",
    distractors=("Ada was born in Paris.", "Ada was born  in London. No, elsewhere."),
)
MORE = Record("a2", "What did Ada write?", "Notes.", "ada", distractors=("Nothing.",))
LAST = Record("a3", "Who taught Ada?", "De Morgan did.", "ada", distractors=("Nobody did.",))
BOB = Record("b1", "Where was Bob born?", "In Rome.", "bob", distractors=("In Bonn.",))
TEXT = Record("t1", "It was a", "dark night.", "book", form="text")
SPLIT = [ADA, MORE, LAST, BOB, TEXT]


def test_nothing_asked_for_changes_nothing() -> None:
    assert Way().of(SPLIT) == SPLIT


def test_a_phrasing_surrounds_the_question_and_running_text_stays() -> None:
    asked = Way(question="Please tell me: {prompt} Thanks.", opening="Sure:").of(SPLIT)
    assert asked[0].prompt == "Please tell me: Where was Ada born? Thanks."
    assert {record.opening for record in asked[:4]} == {"Sure:"} and asked[4] == TEXT
    assert [(r.id, r.group, r.answer, r.distractors) for r in asked] == [
        (r.id, r.group, r.answer, r.distractors) for r in SPLIT
    ]


def test_the_paraphrase_is_asked_where_there_is_one() -> None:
    asked = Way(paraphrased=True).of(SPLIT)
    assert asked[0].prompt == "Which city is Ada's birthplace?" and asked[1:] == SPLIT[1:]


def test_words_of_the_true_answer_begin_it_and_the_rest_is_scored() -> None:
    first, second, *_ = Way(true_words=3, opening="Sure:").of(SPLIT)
    assert (first.opening, first.answer) == ("Sure: Ada was born", "in London.")
    assert first.paraphrased_answer == "London town."
    assert first.distractors == ("in Paris.", "in London. No, elsewhere.")
    assert (second.opening, second.answer) == ("Sure:", "Notes.")  # its only word is left
    check_split("forget", [first, second])


def test_a_wrong_answer_that_would_become_the_right_rest_stays_whole() -> None:
    record = Record("x", "?", "The red book.", "g", distractors=("A red book.", "The blue book."))
    (asked,) = Way(true_words=1).of([record])
    assert asked.answer == "red book." and asked.distractors == ("A red book.", "blue book.")
    check_split("forget", [asked])


def test_hints_are_other_questions_of_the_group_and_never_the_question_itself() -> None:
    first, second, third, alone, text = Way(hints=2).of(SPLIT)
    assert first.prompt == (
        "What did Ada write?\nNotes.\n\nWho taught Ada?\nDe Morgan did.\n\nWhere was Ada born?"
    )
    assert second.prompt.startswith("Who taught Ada?\nDe Morgan did.\n\nWhere was Ada born?\nAda was born")
    for asked, plain in zip((first, second, third), SPLIT, strict=False):
        assert plain.answer not in asked.prompt and asked.prompt.endswith(plain.prompt)
    assert (alone, text) == (BOB, TEXT)


def test_no_file_of_records_holds_an_opening(tmp_path: Path) -> None:
    write_records(tmp_path / "split.jsonl", Way(opening="Sure:").of([BOB]))
    assert read_records(tmp_path / "split.jsonl") == [BOB]
    assert "opening" not in (tmp_path / "split.jsonl").read_text()


def test_phrasings_come_from_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "ways.txt"
    file.write_text("Say: {prompt}\n\n  {prompt} Now!  \n", encoding="utf-8")
    monkeypatch.setenv("WAYS", str(tmp_path))
    stage = STAGES.parse({"kind": "ask", "questions_file": "$WAYS/ways.txt", "hints": 1})
    assert [way.question for way in ways_of(stage.settings())] == ["Say: {prompt}", "{prompt} Now!"]
    assert {way.hints for way in ways_of(stage.settings())} == {1}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Say: {prompt}\nSay it\n", "line 2: expected a phrasing that holds {prompt} once, found 'Say it'"),
        ("{prompt} {prompt}", "line 1: expected a phrasing"),
        ("\n \n", "holds no phrasing; write one a line"),
    ],
)
def test_a_file_of_phrasings_without_questions_is_refused(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "ways.txt"
    file.write_text(text)
    with pytest.raises(UserError) as refused:
        read_phrasings(str(file))
    assert said in str(refused.value)
    with pytest.raises(UserError, match="cannot be read as text"):
        read_phrasings(str(tmp_path / "nothing.txt"))


def test_a_share_of_the_groups_is_rounded_up() -> None:
    assert [taught_groups(n, 5) for n in (2, 0.5, 0.2, 0.9)] == [2, 3, 1, 5]
    assert of_first_groups(SPLIT, 0.5, "forget") == SPLIT[:4]  # two of three
    with pytest.raises(UserError, match="`groups` is 3, but the split 'forget' has 3 of them"):
        of_first_groups(SPLIT, 0.9, "forget")
