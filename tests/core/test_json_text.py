"""JSON from elsewhere: one message for what Python's reader lets through or gives up on, and nothing else."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline_lib.core.errors import UserError
from pipeline_lib.core.files import read_json, read_jsonl, read_object
from pipeline_lib.core.json_text import DEEPEST, NotJson, parse_json
from pipeline_lib.core.untrusted import check_model_folder
from pipeline_lib.data.records import read_records
from pipeline_lib.data.texts import read_documents
from pipeline_lib.peers.checks import read_object as read_log
from pipeline_lib.study import check_suite_file
from pipeline_lib.tasks.detox.pairs import read_pairs
from tests.paths import REPO

HOSTILE = {
    "2,000 lists deep": ('{"id": ' + "[" * 2000 + "]" * 2000 + "}", "nested too deeply"),
    "100,000 lists deep": ("[" * 100_000, "nested too deeply"),
    "2,000 blocks deep": ('{"a": ' * 2000 + "1" + "}" * 2000, "nested too deeply"),
    "an integer of 5,000 digits": ('{"id": ' + "9" * 5000 + "}", "an integer of 5000 digits"),
    "a negative one": ('{"id": [-' + "9" * 400 + "]}", r"`id\[0\]`: an integer of 400 digits"),
    "half a character": (r'{"id": "a\ud800"}', "`id`: holds half a character"),
    "a key of half a character": (r'{"id": {"\udfff": 1}}', "`id`: a key holds half a character"),
    "a key twice": ('{"id": "a", "prompt": "b", "id": "a"}', "the key 'id' appears twice"),
    "a key twice within": ('{"a": [0, {"b": 1, "b": 2}]}', r"`a\[1\]`: the key 'b' appears twice"),
    "Latin-1": (b'{"id": "Z\xfcrich"}', "not UTF-8 .*iconv"),
    "cut": ('{"id": "a', "not valid JSON"),
    "two values": ("{} {}", "not valid JSON"),
}
READERS: dict[str, Callable[[Path], Any]] = {
    "files.read_json": read_json,
    "files.read_object": read_object,
    "files.read_jsonl": read_jsonl,
    "own records": read_records,
    "pairs": lambda path: read_pairs(path, 100),
    "documents": lambda path: list(read_documents(path)),
    "a peer's log": lambda path: read_log(path, "a log"),
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("case", HOSTILE)
def test_every_reader_refuses_it_in_one_message(tmp_path: Path, reader: str, case: str) -> None:
    content, said = HOSTILE[case]
    path = tmp_path / "rows.jsonl"
    path.write_bytes((content.encode() if isinstance(content, str) else content) + b"\n")
    with pytest.raises(UserError, match=said) as caught:
        READERS[reader](path)
    message = str(caught.value)
    assert message.startswith(str(path)) and len(message) < 600, message


@pytest.mark.parametrize("case", ["a key twice", "2,000 blocks deep", "an integer of 5,000 digits"])
def test_a_suite_in_json_is_refused_before_snakemakes_reading_counts(tmp_path: Path, case: str) -> None:
    path = tmp_path / "suite.json"
    path.write_text(str(HOSTILE[case][0]))
    with pytest.raises(UserError, match=HOSTILE[case][1]):
        check_suite_file(path)


@pytest.mark.parametrize(
    ("text", "value"),
    [("NaN", math.nan), ("[-Infinity]", -math.inf), ("1e999", math.inf)],
)
def test_numbers_without_end_stop_only_who_asks_for_finite_ones(text: str, value: float) -> None:
    found = parse_json(text, "here")
    found = found[0] if isinstance(found, list) else found
    assert found == value or (math.isnan(found) and math.isnan(value))
    with pytest.raises(UserError, match=r"here: .*(no number of JSON|beyond all floats)"):
        parse_json(text, "here", finite=True)


def test_what_is_just_allowed() -> None:
    assert parse_json("[" * DEEPEST + "]" * DEEPEST, "here")
    with pytest.raises(UserError, match="deeply"):
        parse_json("[" * (DEEPEST + 2) + "]" * (DEEPEST + 2), "here")
    digits = "9" * 5000
    assert parse_json(json.dumps({"answer": digits, "more": "[" * 500}), "here")["answer"] == digits
    assert parse_json(r'"\ud83d\ude00"', "here") == "😀"
    with pytest.raises(NotJson):
        parse_json("suite: a", "here")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_encodings_that_say_their_name(tmp_path: Path, encoding: str) -> None:
    rows = [{"text": "Zürich 漢 \u2028"}, {"text": "ਊ"}]  # U+0A0A: its bytes in UTF-16 look like line ends
    path = tmp_path / "rows.jsonl"
    path.write_bytes("\r\n".join(json.dumps(row, ensure_ascii=False) for row in rows).encode(encoding))
    assert read_jsonl(path) == rows


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
        max_leaves=20,
    )
)
def test_whatever_python_writes_is_read_as_python_reads_it(value: Any) -> None:
    text = json.dumps(value)
    expected = json.loads(text)
    if any(0xD800 <= ord(char) <= 0xDFFF for char in json.dumps(expected, ensure_ascii=False)):
        return
    assert repr(parse_json(text, "here")) == repr(expected)


@given(st.text(alphabet='{}[]",:019.eE-+\\udN \n', max_size=60) | st.binary(max_size=30))
def test_whatever_is_no_json_is_one_message(text: str | bytes) -> None:
    try:
        parse_json(text, "here")
    except UserError as error:
        assert str(error).startswith("here: ")


def test_an_object_must_be_one_and_have_its_keys(tmp_path: Path) -> None:
    path = tmp_path / "manifest.json"
    for text, said in [("[]", "expected a JSON object, found list"), ("{}", "has no 'splits'")]:
        path.write_text(text)
        with pytest.raises(UserError, match=rf"{path}: {said}.*snakemake --forcerun {path}"):
            read_object(path, "splits")


@pytest.mark.parametrize("name", ["config.json", "generation_config.json", "tokenizer_config.json"])
@pytest.mark.parametrize("case", ["2,000 blocks deep", "an integer of 5,000 digits", "a key twice within"])
def test_settings_of_a_foreign_model_are_refused_before_a_library_reads_them(
    tmp_path: Path, name: str, case: str
) -> None:
    (tmp_path / name).write_text(str(HOSTILE[case][0]))
    with pytest.raises(UserError, match=f"the model: {name}: .*{HOSTILE[case][1]}"):
        check_model_folder(tmp_path, "the model")


OWN_PROCESSES = {  # what may use Python's reader as it is, and why
    "core/json_text.py": "is the strict reader",
    "data/contents.py": "a cache of ours; whatever is wrong with it, it is made again",
    "distributed/launch.py": "what this process's own children wrote",
    "distributed/worker.py": "what this process's own parent wrote",
    "steps/fork_server.py": "what a process of the same user and version asks; runs without the library",
    "models/weights.py": "the header of weights; whatever is wrong with it is one message of its own",
}


def test_no_other_file_reads_json_in_its_own_way() -> None:
    library = REPO / "pipeline_lib"
    found = {
        path.relative_to(library).as_posix()
        for path in library.rglob("*.py")
        if re.search(r"\bjson\.loads?\(", path.read_text(encoding="utf-8"))
    }
    assert found == set(OWN_PROCESSES)
