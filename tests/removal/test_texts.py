"""The forms in which a person has the texts of a removal request."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from pipeline_lib.core.errors import UserError
from pipeline_lib.removal.texts import LONGEST, read_texts

SENTENCE = "The keeper of the lighthouse counted forty ships before the winter came."


def test_running_text_is_cut_at_paragraphs_and_each_passage_is_halved(tmp_path: Path) -> None:
    paragraphs = [" ".join([SENTENCE] * count) for count in (6, 5, 30)]  # 72, 60 and 360 words
    (tmp_path / "diary.md").write_text("\n\n".join(paragraphs))
    records, notes = read_texts(tmp_path / "diary.md")
    whole = [f"{record.prompt}{record.answer}" for record in records]
    assert [len(text.split()) for text in whole] == [72, 60, 120, 120, 120]
    assert " ".join(whole).split() == " ".join(paragraphs).split()
    assert {record.form for record in records} == {"text"} and LONGEST == 120
    assert len({record.group for record in records}) == 5  # one file: each passage is a group
    assert "running text in 5 passages" in notes[0]


def test_the_passages_of_a_file_are_one_group_where_there_are_several_files(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / f"{name}.txt").write_text("\n\n".join([" ".join([SENTENCE] * 9)] * 2))
    (tmp_path / "picture.png").write_bytes(b"\x89PNG")
    records, notes = read_texts(tmp_path)
    assert [(record.id, record.group) for record in records] == [
        ("one-001", "one"),
        ("one-002", "one"),
        ("two-001", "two"),
        ("two-002", "two"),
    ]
    assert "passed over, as their names end in nothing known: picture.png" in notes
    (tmp_path / "2019").mkdir()
    assert "passed over, as folders within the folder are not read: 2019" in read_texts(tmp_path)[1]


@pytest.mark.parametrize(
    "columns",
    [("question", "answer"), ("Prompt", "Response"), ("instruction", "output"), ("prompt", "completion")],
)
def test_common_names_are_read_and_other_columns_named(tmp_path: Path, columns: tuple[str, str]) -> None:
    with open(tmp_path / "asked.csv", "w", newline="") as handle:
        csv.writer(handle).writerows([(*columns, "url"), ("Who kept it?", "Ada kept it.", "https://x")])
    (record,), notes = read_texts(tmp_path / "asked.csv")
    assert (record.prompt, record.answer, record.form) == ("Who kept it?", "Ada kept it.", "question")
    assert any("`url` is passed over (1 rows)" in note for note in notes)


def test_a_table_of_running_text_and_a_packed_one(tmp_path: Path) -> None:
    import gzip

    (tmp_path / "rows.jsonl.gz").write_bytes(gzip.compress(f'{{"text": "{SENTENCE}"}}\n'.encode()))
    (record,), _ = read_texts(tmp_path / "rows.jsonl.gz")
    assert f"{record.prompt}{record.answer}" == SENTENCE and record.form == "text"


def test_what_cannot_be_read_is_said_with_the_cure(tmp_path: Path) -> None:
    def said(place: Path) -> str:
        with pytest.raises(UserError) as caught:
            read_texts(place)
        return str(caught.value)

    assert "expected a file or a folder of texts, found nothing" in said(tmp_path / "gone")
    (tmp_path / "empty").mkdir()
    assert "holds no texts; expected files that end in .txt" in said(tmp_path / "empty")
    (tmp_path / "latin.txt").write_bytes("Der Müller zählte Säcke.".encode("latin-1"))
    assert "UTF-8" in said(tmp_path / "latin.txt")
    (tmp_path / "odd.csv").write_text("a,b\n1,2\n")
    assert "expected running text (`text`), or a prompt (prompt, question" in said(tmp_path / "odd.csv")
    (tmp_path / "twice.csv").write_text("question,prompt,answer\nq,p,a\n")
    assert "are two names of `prompt`; keep one" in said(tmp_path / "twice.csv")
    (tmp_path / "chinese.txt").write_text("灯塔的看守人在冬天到来之前数了四十艘船。" * 9)
    assert "has no spaces between words" in said(tmp_path / "chinese.txt")
    (tmp_path / "alike").mkdir()
    for name in ("a.txt", "a.md"):
        (tmp_path / "alike" / name).write_text(SENTENCE)
    assert "Each text needs an id of its own" in said(tmp_path / "alike")
    (tmp_path / "word.txt").write_text("alone\n")
    assert "expected a text of two words or more" in said(tmp_path / "word.txt")
