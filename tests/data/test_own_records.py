"""Own data in the forms that people have: read with the same records, or refused with what is expected."""

from __future__ import annotations

import csv
import gzip
import io
import json
import lzma
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline_lib.core.errors import UserError
from pipeline_lib.data.own_records import read_own_records
from pipeline_lib.data.records import Record
from pipeline_lib.data.table_files import read_table
from pipeline_lib.tasks import task_settings

ROWS: list[dict[str, Any]] = [
    {
        "id": f"r{i}",
        "prompt": f'Who wrote "{title}"?',
        "answer": f"{title}, by Zoë\nand 李青山; 1,5 = 3/2",
        "group": f"g{i // 2}",
        "distractors": [f"Nobody {i}", "Some, one"],
    }
    for i, title in enumerate(["One", "Two, too", 'The "Third"'])
]
RECORDS = [Record(**{**row, "distractors": tuple(row["distractors"])}) for row in ROWS]


def as_lines(rows: list[dict[str, Any]] = ROWS) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def as_csv(rows: list[dict[str, Any]] = ROWS, beyond: Sequence[str] = (), **form: Any) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, **form)
    writer.writerow([*rows[0], *beyond])
    for row in rows:
        cells = [json.dumps(v, ensure_ascii=False) if isinstance(v, list) else v for v in row.values()]
        writer.writerow([*cells, *beyond])
    return text.getvalue().encode()


def as_parquet(rows: list[dict[str, Any]] = ROWS) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), buffer)
    return buffer.getvalue()


FORMS: dict[str, bytes] = {
    "a.jsonl": as_lines(),
    "tofu.json": as_lines(),
    "array.json": json.dumps(ROWS, indent=1).encode(),
    "array.jsonl": json.dumps(ROWS).encode(),
    "no_ending": as_lines(),
    "a.csv": as_csv(),
    "bom.csv": b"\xef\xbb\xbf" + as_csv(),
    "excel.csv": b"sep=;\r\n" + as_csv(delimiter=";"),
    "comma_in_numbers.csv": as_csv(delimiter=";"),
    "blank_lines_first.csv": b"\r\n\r\n" + as_csv(),
    "columns_without_name.csv": as_csv(beyond=["", ""]),
    "tabs.csv": as_csv(delimiter="\t"),
    "bars.csv": as_csv(delimiter="|"),
    "commas.tsv": as_csv(),
    "utf16.csv": as_csv().decode().encode("utf-16"),
    "a.tsv": as_csv(delimiter="\t"),
    "a.parquet": as_parquet(),
    "wrongly_named.jsonl": as_parquet(),
    "packed.jsonl": gzip.compress(as_lines()),
    "a.jsonl.gz": gzip.compress(as_lines()),
    "a.csv.gz": gzip.compress(as_csv()),
    "a.parquet.gz": gzip.compress(as_parquet()),
    "a.json.xz": lzma.compress(json.dumps(ROWS).encode()),
    "bom.jsonl": b"\xef\xbb\xbf" + as_lines().replace(b"\n", b"\r\n") + b"\r\n",
    "old_mac.jsonl": as_lines().replace(b"\n", b"\r"),
    "utf16.jsonl": as_lines().decode().encode("utf-16"),
    "utf32.json": json.dumps(ROWS).encode("utf-32"),
    "row_numbers.csv": as_csv([{"": str(i), **row} for i, row in enumerate(ROWS)]),
}


@pytest.mark.parametrize("name", FORMS)
def test_every_form_gives_the_same_records(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(FORMS[name])
    assert read_own_records(tmp_path / name) == (RECORDS, [])


REFUSED: dict[str, tuple[bytes, str]] = {
    "a.jsonl.zst": (b"\x28\xb5\x2f\xfd\x00", "packed by zstd; expected one JSON object a line .*unzstd"),
    "a.zip": (b"PK\x03\x04....", "a zip archive"),
    "a.xlsx": (b"PK\x03\x04....", "a zip archive .*CSV UTF-8"),
    "a.xls": (b"\xd0\xcf\x11\xe0....", "older Excel"),
    "pointer.jsonl": (b"version https://git-lfs.github.com/spec/v1\n", "pointer of Git LFS"),
    "a.pdf": (b"%PDF-1.7", "a PDF"),
    "a.txt": (b"Who? Me.", r"expected one JSON object a line .*found 'Who\? Me.'"),
    "a": (b"prompt,answer\nx,y\n", "expected one JSON object a line .*csv"),
    "cut.jsonl.gz": (gzip.compress(as_lines())[:-12], "damaged"),
    "broken.jsonl.gz": (b"\x00\x01", "does not begin as a .gz does"),
    "cut.parquet": (as_parquet()[:-20], "damaged Parquet"),
    "pretty.json": (json.dumps(ROWS[0], indent=1).encode(), "one JSON object over several lines"),
    "lists.jsonl": (b"[1]\n", "row 1: expected a JSON object, found int"),
    "text.json": (b'"a"', "expected one JSON object a line"),
    "latin.jsonl": (b'{"id": "Z\xfcrich"}\n', "not UTF-8 .*iconv"),
    "latin.csv": (b"prompt,answer\nWo?,Z\xfcrich\n", r"not UTF-8 \(line 2.*iconv"),
    "unmarked.jsonl": ('{"id": 1}'.encode("utf-16-le"), "UTF-16 without its byte order mark"),
    "twice.csv": (b"prompt,answer,answer\na,b,c\n", "the column 'answer' occurs twice"),
    "short.csv": (b"prompt,answer\na\n", r"line 2: has 1 cells, and the table's head names 2 columns"),
    "comma.csv": (b"prompt,answer\na,b,c\n", "line 2: has 3 cells"),
    "nameless.csv": (b"prompt,answer,\na,b,c\n", "line 2: 'c' is in a column without a name; name the"),
    "separators.csv": (b",,\n,,\n", "holds no record"),
    "quote.csv": (b'prompt,answer\na,"b" c\n', "line 2: not CSV"),
    "list.csv": (b"prompt,answer,distractors\na,b,c\n", r"must be a JSON list of texts, such as \["),
    "repr.csv": (b"prompt,answer,distractors\na,b,['c']\n", "must be a JSON list of texts"),
    "empty.csv": (b"prompt,answer\n", "holds no record"),
    "blank.jsonl": (b"\n\n", "holds no record"),
    "number.parquet": (
        as_parquet([{"prompt": "a", "answer": 7}]),
        "row 1: `answer` must be a non-empty text",
    ),
    "deep.json": (b"[" * 3000, "nested too deeply"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_read_is_one_message_that_deletes_nothing(tmp_path: Path, name: str) -> None:
    content, said = REFUSED[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=said) as caught:
        read_own_records(tmp_path / name)
    message = str(caught.value)
    assert name in message and "elete" not in message and len(message) < 700


def test_a_missing_file_names_its_neighbour(tmp_path: Path) -> None:
    (tmp_path / "forget.csv").write_bytes(as_csv())
    with pytest.raises(UserError, match=r"forget\.jsonl: no such file. Beside it lies forget.csv"):
        read_own_records(tmp_path / "forget.jsonl")
    with pytest.raises(UserError, match="expected a file, found a folder"):
        read_own_records(tmp_path)


def one(tmp_path: Path, row: dict[str, Any], **fields: list[str]) -> Record:
    (tmp_path / "rows.jsonl").write_bytes(as_lines([row]))
    return read_own_records(tmp_path / "rows.jsonl", fields)[0][0]


def test_fields_say_what_other_names_mean(tmp_path: Path) -> None:
    tofu = {
        "question": "Q?",
        "answer": "A.",
        "paraphrased_answer": "B.",
        "perturbed_answer": ["C."],
        "option1": "x",
    }
    record = one(tmp_path, tofu, prompt=["question"], distractors=["perturbed_answer"])
    assert (record.prompt, record.answer, record.paraphrased_answer) == ("Q?", "A.", "B.")
    assert record.distractors == ("C.",)
    alpaca = {"instruction": "Translate.", "input": "Haus", "output": "house"}
    fields = {"prompt": ["instruction", "input"], "answer": ["output"]}
    assert one(tmp_path, alpaca, **fields).prompt == "Translate.\n\nHaus"
    assert one(tmp_path, {**alpaca, "input": ""}, **fields).prompt == "Translate."
    own = one(tmp_path, {"Frage": "Wer?", "Antwort": "Ich."}, prompt=["Frage"], answer=["Antwort"])
    assert (own.prompt, own.answer) == ("Wer?", "Ich.")


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"question": "Q?", "answer": "A."}, "unknown field 'question'.*`fields: {prompt: question}`"),
        (
            {"question": "Q?", "answer": "A.", "perturbed_answer": ["B."]},
            "`fields: {prompt: question, distractors: perturbed_answer}`",
        ),
        ({"input": "Q?", "output": "A."}, "`fields: {prompt: input, answer: output}`"),
        ({"prompt": "Q?", "completion": "A."}, "`fields: {answer: completion}`"),
        (
            {"instruction": "Q", "input": "x", "output": "A."},
            r"`fields: {prompt: \[instruction, input\], answer: output}`",
        ),
        (
            {"prompt": "Q?", "question": "R?", "answer": "A."},
            "'prompt' and 'question' are two names of `prompt`",
        ),
        (
            {"prompt": "Q?", "response": "A.", "output": "B."},
            "'response' and 'output' are two names of `answer`",
        ),
        ({"Question": "Q?", "Answer": "A."}, "`fields: {prompt: Question, answer: Answer}`"),
        ({"ID": "1", "prompt": "Q?", "answer": "A."}, "`fields: {id: ID}`"),
        ({"prompt": "Q?", "answer": "A.", "Answer": "B."}, "'answer' and 'Answer' are two names of `answer`"),
        ({"prompt": "Q?", "anser": "A."}, "unknown field 'anser'; did you mean 'answer'"),
        ({"messages": []}, "unknown field 'messages'; allowed: .*prompt"),
        ({"id": True, "prompt": "Q?", "answer": "A."}, "`id` must be a non-empty text, found True"),
        ({"id": 7.5, "prompt": "Q?", "answer": "A."}, "`id` must be a non-empty text, found 7.5"),
        ({"prompt": "Q?", "answer": "\u200b\ufeff\u00ad\u3164"}, "`answer` must hold visible text"),
        ({"prompt": "Q?", "answer": "a\0b"}, "`answer` holds the character 0"),
        ({"prompt": "Q?", "answer": "A.", "distractors": ["\u2060"]}, "`distractors` must hold visible text"),
        ({"text": "whole", "answer": "A."}, "`text` is a whole running text, `answer` a part of one"),
        ({"text": "x"}, "`text` must be a text of two characters or more"),
        ({"text": "one two", "form": "question"}, "`text` is running text, but `form`"),
    ],
)
def test_rows_that_are_unclear_are_refused(tmp_path: Path, row: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=f"rows.jsonl, line 1: .*{said}"):
        one(tmp_path, row)


def test_two_names_that_fields_made_one(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match="'prompt' and 'question' are two names of `prompt`, as `fields` says"
    ):
        one(tmp_path, {"prompt": "Q?", "question": "R?", "answer": "A."}, prompt=["question"])


def test_ids_and_groups_are_filled_in_and_said(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"prompt": "Q0", "answer": "A"},
        {"id": 7, "prompt": "Q1", "answer": "A", "group": 3},
        {"id": None, "prompt": "Q2", "answer": "A", "group": float("nan"), "task": "x"},
        {"text": "one two three four"},
    ]
    (tmp_path / "forget.v2.jsonl").write_bytes(as_lines(rows))
    records, said = read_own_records(tmp_path / "forget.v2.jsonl")
    assert [record.id for record in records] == ["forget-00001", "7", "forget-00003", "forget-00004"]
    assert [record.group for record in records] == ["forget-00001", "3", "forget-00003", "forget-00004"]
    assert (records[3].prompt, records[3].answer, records[3].form) == ("one two", " three four", "text")
    assert said == [
        "forget.v2.jsonl: 3 of 4 records without id: numbered, the first 'forget-00001'",
        "forget.v2.jsonl: 3 of 4 records without group: each is a group of its own, 4 groups in all, and "
        "intervals take them as independent",
        "forget.v2.jsonl: 1 running texts: the first half is the prompt, the second is judged",
        "forget.v2.jsonl: the field `task` is passed over (1 rows)",
    ]


def test_nothing_in_a_table_is_nothing(tmp_path: Path) -> None:
    """Empty cells and words for nothing; but an answer may be the word null."""
    path = tmp_path / "a.csv"
    path.write_text("id,prompt,answer,group,distractors,paraphrased_answer\n,What is None?,null,NaN,nan,\n")
    (record,), _ = read_own_records(path)
    assert record == Record("a-00001", "What is None?", "null", "a-00001")
    table = pa.table(
        {"id": [1.0, None], "prompt": ["a", "b"], "answer": ["c", "d"], "distractors": [["e"], None]}
    )
    pq.write_table(table, tmp_path / "a.parquet")
    records, _ = read_own_records(tmp_path / "a.parquet")
    assert [record.id for record in records] == ["1", "a-00002"]
    assert [record.distractors for record in records] == [("e",), ()]


def test_a_huge_cell_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("prompt,answer\nq," + "x" * 1_000_000 + "\n")
    assert len(read_own_records(tmp_path / "a.csv")[0][0].answer) == 1_000_000


@pytest.mark.parametrize(
    ("one_id", "other", "said"), [("a", "a", "have the id 'a'"), ("é", "e\u0301", "decomposed")]
)
def test_ids_that_are_one(tmp_path: Path, one_id: str, other: str, said: str) -> None:
    rows = [{"id": one_id, "prompt": "Q", "answer": "A"}, {"id": other, "prompt": "R", "answer": "B"}]
    (tmp_path / "a.jsonl").write_bytes(as_lines(rows))
    with pytest.raises(UserError, match=said):
        read_own_records(tmp_path / "a.jsonl")


def test_the_task_takes_fields_and_keeps_what_was_said(tmp_path: Path) -> None:
    for name, start in (("forget", 0), ("retain", 5)):
        rows = [
            {"question": f"Q{start + i}?", "answer": f"A{start + i}", "perturbed_answer": ["x"]}
            for i in range(3)
        ]
        (tmp_path / f"{name}.json").write_text(json.dumps(rows))
    raw = {"source": "files", "folder": str(tmp_path), "forget": "forget.json", "retain": "retain.json"}
    task = task_settings(
        {**raw, "fields": {"prompt": "question", "distractors": ["perturbed_answer"]}}
    ).load()
    assert [record.prompt for record in task.splits["forget"]] == ["Q0?", "Q1?", "Q2?"]
    assert len(task.notes) == 4 and "forget.json: 3 of 3 records without id" in task.notes[0]
    with pytest.raises(UserError, match=r"fields\.promt: unknown key 'promt'; did you mean 'prompt'"):
        task_settings({**raw, "fields": {"promt": "question"}})


@given(st.binary(max_size=80) | st.text(alphabet='{}[]",:;\n\t a1\\u', max_size=80).map(str.encode))
def test_no_bytes_end_in_a_traceback(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    folder = tmp_path_factory.mktemp("any")
    for name in ("a.csv", "a.jsonl", "a.json.gz", "a"):
        (folder / name).write_bytes(content)
        try:
            read_own_records(folder / name)
        except UserError as error:
            assert name in str(error)


@given(st.lists(st.tuples(st.text(min_size=1), st.text(min_size=1)), min_size=1, max_size=4))
def test_csv_gives_back_what_was_written(tmp_path_factory: pytest.TempPathFactory, cells: Any) -> None:
    cells = [(a, b) for a, b in cells if a.strip() and b.strip() and "\0" not in a + b]
    path = tmp_path_factory.mktemp("csv") / "a.csv"
    with open(path, "w", encoding="utf-8", newline="") as handle:
        csv.writer(handle).writerows([("prompt", "answer"), *cells])
    assert [(row.fields["prompt"], row.fields["answer"]) for row in read_table(path)] == cells
