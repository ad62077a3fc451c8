"""How much of the forget set stands in other records: counted by hand, and on real data."""

from __future__ import annotations

import pytest

from pipeline_lib.core.errors import UserError
from pipeline_lib.data.overlap import WORDS, check_overlap, measure_overlap
from pipeline_lib.data.records import Record
from pipeline_lib.tasks import task_settings
from tests.paths import shared_data


def record(answer: str, prompt: str = "Who?", name: str = "a", form: str = "question") -> Record:
    return Record(name, prompt, answer, "g", form=form)


TEN = "one two three four five six seven eight nine ten"  # three runs of eight words


@pytest.mark.parametrize(
    ("answer", "other", "share"),
    [
        (TEN, TEN, 1.0),
        (TEN, "one two three four five six seven eight", 1 / 3),
        (TEN, "zero one two three four five six seven eight nine", 2 / 3),
        (TEN, "one two three four five six seven 8 nine ten", 0.0),
        (TEN, "One, two - three; four! Five six 'seven' EIGHT.", 1 / 3),
        (f"{TEN}. {TEN}", TEN, 3 / 10),  # 13 runs, three of them twice
    ],
)
def test_shares_worked_out_by_hand(answer: str, other: str, share: float) -> None:
    assert measure_overlap([record(answer)], [record(other)]).share == pytest.approx(share)


def test_each_different_run_counts_once_and_records_are_named_by_their_own_share() -> None:
    forget = [record(TEN, name="whole"), record(f"{TEN} eleven twelve", name="longer"), record("x " * 9)]
    found = measure_overlap(forget, [record(TEN)])
    assert found.runs == 3 + 2 + 1
    assert found.share == pytest.approx(3 / 6)
    assert found.records == [("whole", 1.0), ("longer", pytest.approx(3 / 5))]
    assert found.described() == {"share": 0.5, "runs": 6, "records": 2}


def test_a_short_answer_counts_with_its_question() -> None:
    """ "1912" alone stands in many texts; the question about it does not."""
    asked = "In which year was the painter Ada Moss born?"
    forget = [record("1912", asked)]
    assert measure_overlap(forget, [record("1912", "When did the Titanic sink?")]).share == 0
    assert measure_overlap(forget, [record("1912", asked)]).share == 1
    assert (
        measure_overlap(
            forget, [record("We know that in which year was the painter Ada Moss born 1912")]
        ).share
        == 1
    )
    # shorter than eight words with the question: the whole is one run
    assert measure_overlap([record("Red", "Colour?")], [record("red", "colour")]).share == 1
    assert measure_overlap([record("Red", "Colour?")], [record("red", "The colour")]).share == 0


def test_of_running_text_the_beginning_counts_too() -> None:
    text = record("nine ten", "one two three four five six seven eight", form="text")
    assert measure_overlap(
        [text], [record("one two three four five six seven eight")]
    ).share == pytest.approx(1 / 3)
    assert measure_overlap([text], [record(TEN, form="text")]).share == 1


def test_the_refusal_names_the_records_and_the_setting() -> None:
    forget = [record(f"{TEN} {word}", name=f"r{word}") for word in "abcdefg"]
    found = measure_overlap(forget, [record(TEN)])
    check_overlap(found, found.share)
    with pytest.raises(UserError) as error:
        check_overlap(found, 0.25)
    message = str(error.value)
    for part in ("30.0%", "`max_overlap` allows 25.0%", "ra (75%)", "and 2 more", f"runs of {WORDS} words"):
        assert part in message
    assert "rf" not in message


@pytest.mark.parametrize(("forget", "records"), [("forget01", 2), ("forget05", 7), ("forget10", 14)])
def test_tofu_hardly_overlaps(forget: str, records: int) -> None:
    folder = shared_data("tofu")
    settings = {"source": "tofu", "folder": str(folder), "forget": forget, "holdout_authors": 20}
    task = task_settings(settings).load()
    found = measure_overlap(task.splits["forget"], task.splits["retain"])
    assert 0.003 < found.share < 0.01
    assert len(found.records) == records
