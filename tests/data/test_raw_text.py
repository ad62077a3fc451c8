"""Documents of text files of every form, and what is refused."""

from __future__ import annotations

import json
import lzma

import pyarrow
import pyarrow.parquet
import pytest

from pipeline_lib.core.errors import UserError
from pipeline_lib.data.raw_text import raw_documents


def test_a_folder_is_read_in_the_order_of_its_names(tmp_path):
    (tmp_path / "b.txt").write_text("plain\r\ntext")
    (tmp_path / "a.jsonl.xz").write_bytes(lzma.compress(b'{"text": "one"}\n{"text": "two"}\n'))
    pyarrow.parquet.write_table(pyarrow.table({"text": ["row", None, ""]}), tmp_path / "c.parquet")
    (tmp_path / "notes.pdf").write_bytes(b"%PDF")
    (tmp_path / ".hidden.txt").write_text("no")
    assert list(raw_documents(tmp_path)) == ["one", "two", "plain\ntext", "row", "", ""]
    assert list(raw_documents(tmp_path / "b.txt")) == ["plain\ntext"]


@pytest.mark.parametrize(
    "name, content, message",
    [
        ("none.txt", None, "expected a file or folder of text, found nothing"),
        ("a.jsonl", json.dumps({"body": "x"}), "line 1: expected an object with a field `text`"),
        ("a.txt", "%PDF-1.4", "is a PDF"),
        ("folder/a.csv", "text\nx\n", "a folder without text; expected files "),
    ],
)
def test_what_is_refused(name, content, message, tmp_path):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    if content is not None:
        path.write_text(content)
    place = path.parent if name.startswith("folder") else path
    with pytest.raises(UserError, match=message):
        list(raw_documents(place))


def test_a_table_without_texts_is_refused(tmp_path):
    for columns, message in (({"body": ["x"]}, "field `text`, found body"), ({"text": [3]}, "found int")):
        pyarrow.parquet.write_table(pyarrow.table(columns), tmp_path / "a.parquet")
        with pytest.raises(UserError, match=message):
            list(raw_documents(tmp_path / "a.parquet"))
