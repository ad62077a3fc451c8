"""Chunks that put together give back the text, and documents of JSON lines."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline_lib.core.errors import UserError
from pipeline_lib.data.texts import (
    Passage,
    chunks,
    document_records,
    read_documents,
    read_text,
    unit_ends,
)
from tests.data.tokenizers import TEXT, byte_level, metaspace
from tests.paths import shared_data

TOKENIZERS = [None, byte_level(), metaspace()]
BOOKS = ("alice_in_wonderland", "pride_and_prejudice", "tinyshakespeare")


def test_words_carry_their_punctuation_and_the_space_before_them() -> None:
    text = "  One, two!\n\nThree.  "
    found = chunks(text, 2)
    assert [chunk.text for chunk in found] == ["  One, two!", "\n\nThree.  "]
    assert found == [Passage("  One, two!", 0, (6, 11)), Passage("\n\nThree.  ", 11, (10,))]
    assert found[0].split(1) == ("  One,", " two!")
    assert found[1].end == len(text)


def test_chunks_of_tokens_are_so_many_tokens_of_the_whole_text() -> None:
    tokenizer = byte_level()
    ids = tokenizer.encode(TEXT, add_special_tokens=False)
    plain = TEXT[: TEXT.index("Čí")]  # one character a byte: no token is part of a character
    first = len(tokenizer.encode(plain, add_special_tokens=False))
    for number, chunk in enumerate(chunks(plain, 10, tokenizer)):
        again = tokenizer.encode(chunk.text, add_special_tokens=False)
        assert again == ids[number * 10 : min(first, number * 10 + 10)]
        assert chunk.units == len(again)


@pytest.mark.parametrize("tokenizer", TOKENIZERS)
@settings(max_examples=60, deadline=None)
@given(st.text(alphabet=st.sampled_from("ab é🌹\n.,–"), max_size=60), st.integers(1, 7))
def test_chunks_put_together_are_the_text(tokenizer, text, size) -> None:
    found = chunks(text, size, tokenizer)
    if not text.strip() and not found:
        return  # white space alone has no word
    assert "".join(chunk.text for chunk in found) == text
    for chunk in found:
        assert chunk.text == text[chunk.start : chunk.end] != ""
        assert chunk.units <= size
        assert list(chunk.ends) == sorted(chunk.ends)
        assert chunk.ends[-1] == len(chunk.text)
    assert [chunk.start for chunk in found[1:]] == [chunk.end for chunk in found[:-1]]


@pytest.mark.parametrize("book", BOOKS)
@pytest.mark.parametrize("tokenizer", TOKENIZERS)
def test_real_books(book, tokenizer) -> None:
    text = read_text(shared_data("books") / f"{book}.txt")[:150_000]
    found = chunks(text, 100, tokenizer)
    assert "".join(chunk.text for chunk in found) == text
    # a character that is more tokens than one goes whole to one chunk, which then counts a token less
    assert all(97 <= chunk.units <= 100 for chunk in found[:-1])
    assert sum(chunk.units for chunk in found) >= 0.999 * len(unit_ends(text, tokenizer))
    if tokenizer is None:
        assert {chunk.units for chunk in found[:-1]} == {100}
        assert sum(chunk.units for chunk in found) == len(text.split())


def test_first_and_split() -> None:
    passage = chunks("a bb ccc dddd", 4)[0]
    assert passage.first(2) == Passage("a bb", 0, (1, 4))
    assert passage.first(9) == passage
    for units in (0, 4, 5):
        with pytest.raises(ValueError, match="cannot be split"):
            passage.split(units)
    with pytest.raises(ValueError, match="at least one unit"):
        chunks("a", 0)


def test_reading_a_text(tmp_path: Path) -> None:
    file = tmp_path / "book.txt"
    file.write_bytes("\ufeffČí\r\nje".encode())
    assert read_text(file) == "Čí\nje"
    file.write_bytes("größe".encode("latin-1"))
    with pytest.raises(UserError, match=r"book\.txt: not UTF-8 \(byte 2 is 0xf6\).*iconv"):
        read_text(file)
    with pytest.raises(UserError, match="no such file"):
        read_text(tmp_path / "none.txt")
    with pytest.raises(UserError, match="found a folder"):
        read_text(tmp_path)


def lines(*texts: str) -> bytes:
    return "".join(json.dumps({"text": text, "url": "x"}) + "\n" for text in texts).encode()


def test_documents_of_a_folder_packed_or_not(tmp_path: Path) -> None:
    (tmp_path / "b.jsonl").write_bytes(lines("three", "four") + b"\n")
    (tmp_path / "a.json.gz").write_bytes(gzip.compress(lines("one", "two")))
    assert list(read_documents(tmp_path)) == ["one", "two", "three", "four"]
    assert list(read_documents(tmp_path / "b.jsonl")) == ["three", "four"]


def test_only_as_many_documents_are_read_as_are_asked_for(tmp_path: Path) -> None:
    """What comes after them is damaged, and is never seen."""
    whole = gzip.compress(lines(*("a b c d " + str(i) for i in range(20_000))), mtime=0)
    (tmp_path / "cut.json.gz").write_bytes(whole[: len(whole) // 2])
    records = document_records(read_documents(tmp_path), 50, 2, 4)
    assert [(r.prompt, r.answer) for r in records] == [("a b", " c d")] * 50
    with pytest.raises(UserError, match="damaged"):
        list(read_documents(tmp_path))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (lines("one") + b"{", r"a\.jsonl, line 2: not valid JSON"),
        (b'{"content": "x"}\n', r"a\.jsonl, line 1: expected an object with a field `text`"),
        (b"[1]\n", r"line 1: expected an object"),
        (b'{"text": "\xff"}\n', r"line 1: not UTF-8"),
    ],
)
def test_broken_documents_are_named(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "a.jsonl").write_bytes(content)
    with pytest.raises(UserError, match=said):
        list(read_documents(tmp_path / "a.jsonl"))


def test_places_without_documents(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"holds no documents; expected \*\.jsonl"):
        list(read_documents(tmp_path))
    with pytest.raises(UserError, match="no such file"):
        list(read_documents(tmp_path / "none.jsonl"))


def test_documents_as_records() -> None:
    texts = ["a b", "a b c", "a b c d e f", "  ", "g h i"]
    records = document_records(texts, 3, prompt_units=2, max_units=4, name="web")
    assert [(r.id, r.prompt, r.answer) for r in records] == [
        ("web-00001", "a b", " c"),
        ("web-00002", "a b", " c d"),  # cut to four words
        ("web-00004", "g h", " i"),
    ]
    assert all(r.form == "text" and r.group == r.id for r in records)
    with pytest.raises(UserError, match="expected 4 documents of more than 2 words, found 3 among 5"):
        document_records(texts, 4, 2, 4)
    with pytest.raises(UserError, match="of at most 2 units leave no answer"):
        document_records(texts, 1, 2, 2)


def test_real_c4() -> None:
    texts = list(read_documents(shared_data("c4")))
    assert len(texts) == 300
    records = document_records(texts, 200, 20, 60)
    for record in records:
        number = int(record.id.removeprefix("c4-"))
        assert texts[number].startswith(record.prompt + record.answer)
        assert 21 <= len((record.prompt + record.answer).split()) <= 60
