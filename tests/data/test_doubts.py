"""Records that are odd are counted; records that would spoil a result are refused."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline_lib.core.errors import UserError
from pipeline_lib.data.doubts import content, doubts_of, folded
from pipeline_lib.data.records import Record, shows
from pipeline_lib.data.splits import check_disjoint

PLAIN = [Record(f"r{i}", f"Question {i}?", f"Answer {i}.", f"g{i}", distractors=("x", "y")) for i in range(4)]


def test_plain_records_raise_none() -> None:
    assert doubts_of({"forget": PLAIN, "retain": PLAIN, "retain_eval": PLAIN}) == []


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (
            replace(PLAIN[0], id="other", answer="ANSWER  0."),
            "1 of 5 records repeat the prompt and answer of another id, the first 'other' those of 'r0'",
        ),
        (replace(PLAIN[0], id="R1", prompt="New?"), "forget: 1 ids differ from another one only in case"),
        (replace(PLAIN[0], id="ｒ2", prompt="New?"), "the first 'ｒ2' from 'r2'"),
        (
            replace(PLAIN[0], id="n", prompt="New?", distractors=("x", "x ")),
            "forget: 1 of 5 records have the same distractor more than once, the first 'n'",
        ),
        (
            replace(PLAIN[0], id="n", prompt="New?", distractors=("answer 0.",)),
            "forget: 1 of 5 records have a distractor that differs from the right answer only in case",
        ),
    ],
)
def test_one_line_a_kind_with_its_count(changed: Record, said: str) -> None:
    lines = doubts_of({"forget": [*PLAIN, changed]})
    assert len(lines) == 1 and said in lines[0]
    parts = doubts_of({"retain": [*PLAIN, changed], "retain_eval": [*PLAIN, changed]})
    assert len(parts) == 1, "a part of a split says nothing new"


@pytest.mark.parametrize(
    "same",
    [
        replace(PLAIN[1], id="x"),
        replace(PLAIN[1], id="x", prompt="  question  1? "),
        replace(PLAIN[1], id="x", answer="Ａnswer 1."),
    ],
)
def test_a_forgotten_record_in_other_letters_is_no_other_record(same: Record) -> None:
    with pytest.raises(UserError, match=r"overlap: 1 of 1 records .*\(ids: x = r1\)"):
        check_disjoint("forget", [same], "retain", PLAIN)
    check_disjoint("forget", [replace(same, answer="Something else.")], "retain", PLAIN)


def test_ids_in_an_error_are_shown_as_codes() -> None:
    with pytest.raises(UserError, match=r"ids: a⟨U\+001B⟩⟨U\+000A⟩ = r1"):
        check_disjoint("forget", [replace(PLAIN[1], id="a\x1b\n")], "retain", PLAIN)


@given(st.text())
def test_folding_is_stable_and_sees_through_case(text: str) -> None:
    assert content(Record("a", text.upper(), text, "g"))[1] == folded(text)
    assert folded(f"  {text}\t") == folded(text)


@pytest.mark.parametrize("text", ["a", "字", "ก", "1", "?", "🎨", "\ue000", "e\u0301", "\u200ba"])
def test_what_shows(text: str) -> None:
    assert shows(text)


HIDDEN = ["\u200b", "\ufeff", "\u00ad", "\u2060\u200d", "\u3164", "\u2800", "\u034f", "\x1b"]


@pytest.mark.parametrize("text", HIDDEN)
def test_what_does_not(text: str) -> None:
    assert not shows(text) and not shows(text + " \n\u00a0")
