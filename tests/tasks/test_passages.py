"""The task of copyright removal: splits that share no text, views of the same chunks, and bad input."""

from __future__ import annotations

import gzip
import json
from itertools import combinations, pairwise
from pathlib import Path

import pytest

from pipeline_lib.core.errors import UserError
from pipeline_lib.core.files import read_json
from pipeline_lib.data.splits import check_task
from pipeline_lib.data.texts import read_text, unit_ends
from pipeline_lib.metrics import declared
from pipeline_lib.steps.prepare_data import prepare_task
from pipeline_lib.tasks import task_settings
from pipeline_lib.tasks.passages import words
from pipeline_lib.tasks.passages.story import story
from tests.data.tokenizers import byte_level
from tests.paths import shared_data

SMALL = {
    "source": "passages",
    "book": "generated",
    "retain": {"source": "generated", "n": 6},
    "n_chunks": 5,
    "unseen_chunks": 3,
    "holdout_chunks": 4,
    "chunk_tokens": 40,
    "prompt_tokens": [10, 25],
    "chunks_per_group": 2,
}
CHUNKED = ("forget", "unseen", "holdout")


def loaded(**changes):
    return task_settings({**SMALL, **changes}).load()


def whole(record) -> str:
    return record.prompt + record.answer


def spans(task, text: str) -> dict[str, list[tuple[int, int]]]:
    """Where in the book each split's chunks are."""
    found = {}
    for split in CHUNKED:
        starts = [int(record.id.removeprefix("chunk-")) for record in task.splits[split]]
        ends = [start + len(whole(r)) for start, r in zip(starts, task.splits[split], strict=True)]
        found[split] = list(zip(starts, ends, strict=True))
        for (start, end), record in zip(found[split], task.splits[split], strict=True):
            assert text[start:end] == whole(record)
    return found


def assert_nothing_shared(task, text: str) -> None:
    found = spans(task, text)
    every = sorted(span for split in found.values() for span in split)
    assert all(first[1] <= second[0] for first, second in pairwise(every))
    groups = {split: {record.group for record in task.splits[split]} for split in CHUNKED}
    for one, other in combinations(CHUNKED, 2):
        assert not groups[one] & groups[other]


def test_the_splits_are_what_was_asked_for() -> None:
    settings = task_settings(SMALL)
    task = settings.load()
    check_task(task)
    sizes = {name: len(records) for name, records in task.splits.items()}
    assert sizes == {"forget": 5, "forget_25": 5, "unseen": 3, "unseen_25": 3, "retain": 6, "holdout": 4}
    assert tuple(task.evaluate) == settings.evaluated_splits() == tuple(sizes)
    assert task.finetune == {"target": ["forget", "unseen", "retain"], "retrained": ["retain"]}
    assert (task.utility, task.multiple_choice, task.holdout) == ([], [], "holdout")
    for records in task.splits.values():
        for record in records:
            assert record.form == "text"
            assert not record.distractors
            assert len(whole(record).split()) == 40
    for split, length in (
        ("forget", 10),
        ("forget_25", 25),
        ("unseen", 10),
        ("unseen_25", 25),
        ("retain", 10),
    ):
        assert {len(record.prompt.split()) for record in task.splits[split]} == {length}
    assert list(map(whole, task.splits["forget"])) == list(map(whole, task.splits["forget_25"]))
    assert_nothing_shared(task, story(0, "book", 2000))
    assert task.origin == "book: generated; retain: generated"


def test_a_task_of_forget_and_retain_alone() -> None:
    settings = task_settings({**SMALL, "unseen_chunks": 0, "holdout_chunks": 0, "prompt_tokens": [10]})
    task = settings.load()
    assert tuple(task.evaluate) == settings.evaluated_splits() == ("forget", "retain")
    assert task.finetune["target"] == ["forget", "retain"]
    assert task.holdout is None


def test_what_judges_the_task_exists(tmp_path: Path) -> None:
    manifest = prepare_task(SMALL, tmp_path / "out")
    assert manifest == read_json(tmp_path / "out/manifest.json")
    judged = manifest["headline"]
    assert judged["forgetting"][0] == ["forget", "rouge_l_recall"]
    assert judged["utility"][0] == ["retain", "probability"]
    for split, metric in (*judged["forgetting"], *judged["utility"]):
        assert split in manifest["evaluate"]
        assert metric in declared()
    assert {split for split, _ in judged["forgetting"]} == {"forget", "unseen"}
    assert manifest["membership"] == {"members": "forget", "nonmembers": "holdout"}


def test_the_same_seed_gives_the_same_chunks_and_another_seed_others() -> None:
    assert loaded().splits == loaded().splits
    assert loaded(seed=1).splits["forget"] != loaded().splits["forget"]
    with_book = {"book": str(shared_data("books") / "alice_in_wonderland.txt")}
    assert loaded(**with_book).splits["forget"] == loaded(**with_book).splits["forget"]
    assert loaded(**with_book, seed=1).splits["forget"] != loaded(**with_book).splits["forget"]


@pytest.mark.parametrize("book", ["alice_in_wonderland", "pride_and_prejudice", "tinyshakespeare"])
def test_real_books_share_nothing_between_splits(book) -> None:
    path = shared_data("books") / f"{book}.txt"
    task = loaded(
        book=str(path),
        n_chunks=20,
        unseen_chunks=10,
        holdout_chunks=12,
        chunk_tokens=200,
        prompt_tokens=[50, 120],
        chunks_per_group=3,
    )
    check_task(task)
    sizes = {name: len(records) for name, records in task.splits.items()}
    assert (sizes["forget"], sizes["unseen"], sizes["holdout"]) == (20, 10, 12)
    assert_nothing_shared(task, read_text(path))
    assert {len(whole(record).split()) for split in CHUNKED for record in task.splits[split]} == {200}
    assert len({record.group for record in task.splits["forget"]}) in (
        7,
        8,
    )  # 8 with the book's short last run


def test_lengths_in_tokens(tmp_path: Path) -> None:
    """A tokenizer of a folder measures chunks, prompts and documents."""
    tokenizer = byte_level()
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    task = loaded(tokenizer={"path": str(tmp_path / "tokenizer")})
    for split in ("forget", "unseen", "holdout", "retain"):
        for record in task.splits[split]:
            assert len(unit_ends(whole(record), tokenizer)) == 40
            assert len(unit_ends(record.prompt, tokenizer)) == 10


def test_retain_of_c4_and_of_a_second_text(tmp_path: Path, monkeypatch) -> None:
    row = json.dumps({"text": " ".join(map(str, range(50)))}) + "\n"
    (tmp_path / "c4").mkdir()
    (tmp_path / "c4/en.json.gz").write_bytes(gzip.compress((row * 9).encode()))
    monkeypatch.setenv("PIPELINE_DATA", str(tmp_path))
    task = loaded(retain={"source": "c4", "n": 7})
    assert task.origin == "book: generated; retain: $PIPELINE_DATA/c4"
    assert [r.prompt for r in task.splits["retain"]] == [" ".join(map(str, range(10)))] * 7
    assert [r.answer.split()[-1] for r in task.splits["retain"]] == ["39"] * 7
    monkeypatch.delenv("PIPELINE_DATA")
    task = loaded(retain={"source": "c4", "n": 7, "path": str(tmp_path / "c4/en.json.gz")})
    assert len(task.splits["retain"]) == 7

    (tmp_path / "other.txt").write_text(" ".join(map(str, range(500))))
    monkeypatch.setenv("MINE", str(tmp_path))
    task = loaded(retain={"source": "text", "path": "$MINE/other.txt", "n": 5})
    assert len(task.splits["retain"]) == 5
    assert len({record.group for record in task.splits["retain"]}) == 3
    numbers = [int(word) for record in task.splits["retain"] for word in whole(record).split()]
    assert len(set(numbers)) == len(numbers) == 200


# --- the generated book ------------------------------------------------------------------------------


def test_a_longer_story_begins_with_a_shorter_one() -> None:
    short, long = story(3, "book", 300), story(3, "book", 900)
    assert long.startswith(short)
    assert 300 <= len(short.split()) < 420
    assert short != story(4, "book", 300)[: len(short)]


def test_the_worlds_share_no_name() -> None:
    book, other = (story(0, world, 6000) for world in ("book", "elsewhere"))
    for names in (words.HER_NAMES, words.HIS_NAMES, words.PLACES):
        in_book = {name for name in names if name in book}
        assert len(in_book) >= 3
        assert not {name for name in in_book if name in other}


def test_a_story_is_neither_repeated_nor_unfinished() -> None:
    text = story(0, "book", 6000)
    assert "{" not in text
    assert not [bad for bad in (" a o", " a i", " a e", " an b", "  ", "..") if bad in text]
    sentences = [line for scene in text.split("\n\n") for line in scene.split(". ")]
    assert len(set(sentences)) > 0.97 * len(sentences)
    runs = text.split()
    eights = [tuple(runs[i : i + 8]) for i in range(len(runs) - 7)]
    assert len(set(eights)) > 0.9 * len(eights)  # what comes next is seldom decided by what was before


# --- bad input ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"prompt_tokens": [10, 40]}, r"prompt_tokens: found 40; must be smaller than `chunk_tokens` \(40\)"),
        ({"prompt_tokens": [10, 10]}, r"prompt_tokens: found \[10, 10\]; each length once"),
        ({"prompt_tokens": []}, "prompt_tokens"),
        ({"tokenizer": {"id": "a/b"}}, r"tokenizer\.revision: goes with `id`"),
        ({"tokenizer": {"id": "a/b", "revision": "main"}}, r"tokenizer\.revision: .*commit"),
        ({"tokenizer": {}}, r"tokenizer\.id: give either"),
        ({"tokenizer": {"path": "/nowhere"}}, "tokenizer /nowhere: expected one of tokenizer.json"),
        ({"retain": {"source": "pile"}}, r"retain"),
    ],
)
def test_settings_that_cannot_work(changes, said) -> None:
    with pytest.raises(UserError, match=said):
        loaded(**changes)


def test_books_that_cannot_be_used(tmp_path: Path) -> None:
    book = tmp_path / "book.txt"
    with pytest.raises(UserError, match=r"found nothing\..*that you own"):
        loaded(book=str(book))
    with pytest.raises(UserError, match=r"NOT_SET is not set"):
        loaded(book="$NOT_SET/book.txt")
    book.write_text("word " * 39)
    with pytest.raises(UserError, match=r"has 39 words, fewer than one chunk of 40\."):
        loaded(book=str(book))
    book.write_text("")
    with pytest.raises(UserError, match=r"has 0 words"):
        loaded(book=str(book))
    book.write_text("word " * 400)
    with pytest.raises(UserError, match=r"10 chunks of 40 words fit, in 5 runs of 2.*5 for 'forget', 3 for"):
        loaded(book=str(book))
    book.write_bytes(b"caf\xe9 " * 400)
    with pytest.raises(UserError, match="not UTF-8"):
        loaded(book=str(book))


def test_chunks_that_just_fit(tmp_path: Path) -> None:
    book = tmp_path / "book.txt"
    book.write_text(" ".join(map(str, range(14 * 40 + 39))))  # 14 chunks: 3 + 2 + 2 runs of 2 neighbours
    sizes = {name: len(records) for name, records in loaded(book=str(book)).splits.items()}
    assert (sizes["forget"], sizes["unseen"], sizes["holdout"]) == (5, 3, 4)
    book.write_text(
        " ".join(map(str, range(12 * 40)))
    )  # as many chunks as asked for, but runs are kept whole
    with pytest.raises(UserError, match="lower `chunks_per_group`"):
        loaded(book=str(book))
    assert len(loaded(book=str(book), chunks_per_group=1).splits["forget"]) == 5
