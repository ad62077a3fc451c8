"""A file is hashed once and again when it was edited; only another content gives another identity."""

from __future__ import annotations

import hashlib
import json
import os

import pytest

from pipeline_lib.data import contents
from pipeline_lib.data.contents import Contents


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with two files that were last touched long before anything looks at them."""
    monkeypatch.setattr(contents, "SETTLED", -1.0)
    (tmp_path / "a.jsonl").write_text("one\n")
    (tmp_path / "b.jsonl").write_text("two\n")
    return tmp_path


@pytest.fixture
def read(monkeypatch):
    """Names of the files that were really read, in order."""
    names: list[str] = []
    real = contents.sha256
    monkeypatch.setattr(contents, "sha256", lambda path: names.append(path.name) or real(path))
    return names


def both(place):
    """The identity as a new process finds it."""
    files = {name: place / name for name in ("a.jsonl", "b.jsonl")}
    return Contents(place / "kept.json").identity("both", files)


def test_the_identity_is_a_hash_of_names_and_contents(place):
    lines = "".join(
        f"{hashlib.sha256(text).hexdigest()}  {name}\n"
        for name, text in (("a.jsonl", b"one\n"), ("b.jsonl", b"two\n"))
    )
    assert both(place) == hashlib.sha256(lines.encode()).hexdigest()[:16]


def test_a_file_is_read_once(place, read):
    first = both(place)
    assert both(place) == first
    assert read == ["a.jsonl", "b.jsonl"]


def test_another_time_with_the_same_content_reads_it_again_and_changes_nothing(place, read):
    first = both(place)
    os.utime(place / "a.jsonl", (1, 1))
    assert both(place) == first
    assert read == ["a.jsonl", "b.jsonl", "a.jsonl"]


def test_an_edit_of_the_same_size_at_the_same_time_is_seen(place):
    first, facts = both(place), (place / "a.jsonl").stat()
    (place / "a.jsonl").write_text("0ne\n")
    os.utime(place / "a.jsonl", ns=(facts.st_atime_ns, facts.st_mtime_ns))
    assert both(place) != first


def test_a_file_that_was_just_written_is_not_trusted(place, read, monkeypatch):
    """A second edit within the resolution of the file system's clock would leave the same marks."""
    monkeypatch.setattr(contents, "SETTLED", 60.0)
    both(place), both(place)
    assert read == 2 * ["a.jsonl", "b.jsonl"]


def test_what_is_gone_keeps_its_identity_and_one_missing_file_is_a_change(place):
    first = both(place)
    (place / "a.jsonl").unlink()
    without_one = both(place)
    assert without_one != first
    (place / "b.jsonl").unlink()
    assert both(place) == without_one
    assert Contents(place / "other.json").identity("both", {"a.jsonl": place / "a.jsonl"}) is None


@pytest.mark.parametrize("text", ["", "[]", "{", '{"files": {"x": [1]}, "known": {}}', "[" * 5000, "\ud800"])
def test_a_damaged_file_of_hashes_is_made_again(place, text):
    first = both(place)
    (place / "kept.json").write_text(text, errors="surrogatepass")
    assert both(place) == first
    assert len(json.loads((place / "kept.json").read_text())["files"]) == 2


def test_hashes_that_another_process_kept_meanwhile_stay(place):
    ours, theirs = Contents(place / "kept.json"), Contents(place / "kept.json")
    ours.identity("a", {"": place / "a.jsonl"})
    theirs.identity("b", {"": place / "b.jsonl"})
    assert set(json.loads((place / "kept.json").read_text())["known"]) == {"a", "b"}


def test_a_place_that_cannot_be_written_costs_time_alone(place):
    (place / "file").write_text("")
    assert Contents(place / "file" / "kept.json").identity("a", {"": place / "a.jsonl"})
