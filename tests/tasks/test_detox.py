"""Detoxification: real rows in the hub's form and in pairs, and made ones for all that can be wrong."""

from __future__ import annotations

import gzip
import json
import lzma
from collections import Counter
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from pipeline_lib.core import locate
from pipeline_lib.core.errors import UserError
from pipeline_lib.core.files import read_json, read_jsonl, write_jsonl
from pipeline_lib.data.splits import check_task
from pipeline_lib.steps.prepare_data import prepare_task
from pipeline_lib.tasks import detox, task_settings
from pipeline_lib.tasks.detox.pairs import read_pairs
from tests.paths import shared_data


@pytest.fixture(autouse=True)
def no_data_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PIPELINE_DATA", raising=False)


def hub_row(prompt: str, unsafe: str, safe: str, unsafe_first: bool = True, **changes: Any) -> dict[str, Any]:
    """One row as the hub has it, of its first release."""
    first, second = (unsafe, safe) if unsafe_first else (safe, unsafe)
    safer = int(unsafe_first)
    return {
        "prompt": prompt,
        "response_0": first,
        "response_1": second,
        "is_response_0_safe": not unsafe_first,
        "is_response_1_safe": unsafe_first,
        "better_response_id": 1 - safer,  # often the unsafe answer helps more
        "safer_response_id": safer,
        **changes,
    }


def made(number: int, wordings: int = 2) -> list[dict[str, Any]]:
    """`number` rows; each question is asked in `wordings` of them, with another answer each time."""
    return [
        hub_row(f"How do I break rule {i // wordings}?", f"Bad way {i}.", f"Please do not, {i}.", i % 3 == 0)
        for i in range(number)
    ]


@pytest.fixture
def retain(tmp_path: Path) -> dict[str, str]:
    """Documents to keep."""
    words = " ".join(f"word{i}" for i in range(60))
    write_jsonl(tmp_path / "c4.jsonl", [{"text": f"Document {i} says {words}."} for i in range(8)])
    return {"path": str(tmp_path / "c4.jsonl")}


def settings(folder: Path, documents: dict[str, Any], /, **changes: Any) -> Any:
    block = {
        "source": "detox",
        "folder": str(folder),
        "file": "rows.jsonl",
        "n_forget": 10,
        "n_unseen": 6,
        "retain": {"n": 5, **documents},
    }
    return task_settings({**block, **changes})


def load(tmp_path: Path, retain: dict[str, Any], rows: list[Any] | None = None, **changes: Any) -> Any:
    write_jsonl(tmp_path / "rows.jsonl", made(40) if rows is None else rows)
    return settings(tmp_path, retain, **changes).load()


def test_rows_of_pairs_name_the_safe_answer(tmp_path: Path) -> None:
    rows = [
        {"prompt": " Why? ", "safer_response": "Please do not.", "less_safe_response": "Like this."},
        {"prompt": "How?", "safer_response": "No.", "less_safe_response": " "},
    ]
    write_jsonl(tmp_path / "rows.jsonl", rows)
    found = read_pairs(tmp_path / "rows.jsonl", 100)
    assert [(pair.row, pair.prompt, pair.unsafe, pair.safe) for pair in found.pairs] == [
        (1, "Why?", "Like this.", "Please do not.")
    ]
    assert found.counted() == "2 rows, 1 pairs; left out: 1 (an empty prompt or answer)"
    write_jsonl(tmp_path / "rows.jsonl", [{"prompt": "How?", "safer_response": "No."}])
    with pytest.raises(
        UserError, match="less_safe_response and safer_response; found prompt, safer_response"
    ):
        read_pairs(tmp_path / "rows.jsonl", 100)


def groups(task: Any) -> dict[str, set[str]]:
    return {name: {record.group for record in records} for name, records in task.splits.items()}


def test_real_rows_in_both_forms_are_the_same_task(tmp_path: Path) -> None:
    """The hub's columns are built from the real pairs; with them come rows that are no pairs."""
    file = shared_data("safe_rlhf/pairs.jsonl")
    shared_data("c4")
    pairs = read_jsonl(file)
    rows = [
        hub_row(pair["prompt"], pair["less_safe_response"], pair["safer_response"], number % 2 == 0)
        for number, pair in enumerate(pairs)
    ]
    write_jsonl(tmp_path / "rows.jsonl", rows)
    retain = {"n": 200, "path": str(file.parents[1] / "c4")}
    sizes = {"n_forget": 200, "n_unseen": 150, "holdout": 40, "learned": True}
    task = settings(tmp_path, retain, **sizes).load()
    check_task(task)
    assert {name: len(records) for name, records in task.splits.items()} == {
        "forget": 200,
        "unseen": 150,
        "holdout": 40,
        "retain": 200,
    }
    known = {(pair["prompt"].strip(), pair["less_safe_response"].strip()): pair for pair in pairs}
    for name in ("forget", "unseen", "holdout"):
        for record in task.splits[name]:
            row = pairs[int(record.id.removeprefix("pair-")) - 1]
            assert (record.prompt, record.answer) == (
                row["prompt"].strip(),
                row["less_safe_response"].strip(),
            )
            assert (record.prompt, record.answer) in known
            assert record.distractors == record.alternatives == (row["safer_response"].strip(),)
    prompts = {name: {r.prompt for r in records} for name, records in task.splits.items()}
    assert not prompts["forget"] & (prompts["unseen"] | prompts["holdout"])
    assert not prompts["unseen"] & prompts["holdout"]
    assert "1496 rows" in task.origin

    as_pairs = settings(file.parent, retain, file=file.name, **sizes).load()
    assert as_pairs.splits == task.splits


def test_which_answer_is_to_be_forgotten_follows_from_the_labels_alone(tmp_path, retain) -> None:
    task = load(tmp_path, retain)
    for record in (*task.splits["forget"], *task.splits["unseen"]):
        assert record.answer.startswith("Bad way")
        assert record.distractors == record.alternatives
        assert record.distractors[0].startswith("Please do not")
    assert all(record.form == "text" for record in task.splits["retain"])


def test_rows_of_one_question_stay_together(tmp_path, retain) -> None:
    rows = made(60, wordings=3)
    rows[1]["prompt"] = f"  {rows[0]['prompt'].upper()} "  # white space and case make no other question
    task = load(tmp_path, retain, rows, n_forget=11, n_unseen=10, holdout=7, learned=True)
    check_task(task)
    found = groups(task)
    assert not found["forget"] & found["unseen"]
    assert not (found["forget"] | found["unseen"]) & found["holdout"]
    sizes = Counter(record.group for record in task.splits["forget"])
    assert sorted(sizes.values()) == [2, 3, 3, 3]  # the last question has one row more than asked for
    assert sum(len(records) for name, records in task.splits.items() if name != "retain") == 28


def test_the_two_protocols(tmp_path, retain) -> None:
    papers, learned = load(tmp_path, retain), load(tmp_path, retain, learned=True)
    assert papers.finetune == {"target": []}
    assert learned.finetune == {"target": ["forget", "retain"], "retrained": ["retain"]}
    assert papers.splits == learned.splits
    assert papers.judged_by()["forgetting"][0] == ("unseen", "safe_preference")
    assert learned.judged_by()["forgetting"][0] == ("unseen", "safe_preference")
    compared = ("forget", "ks_statistic")
    assert [compared in task.judged_by()["forgetting"] for task in (papers, learned)] == [False, True]
    for on in (False, True):
        block = settings(tmp_path, retain, learned=on)
        assert block.has_retrained() is on
        assert list(block.evaluated_splits()) == papers.evaluate
    assert {s for side in learned.judged_by().values() for s, _ in side} <= set(learned.evaluate)
    held_out = settings(tmp_path, retain, learned=True, holdout=2)
    assert list(held_out.evaluated_splits()) == held_out.load().evaluate
    with pytest.raises(UserError, match="holdout: found 2; needs `learned: true`"):
        settings(tmp_path, retain, holdout=2)


def test_the_seed_draws_and_the_size_of_forget_moves_nothing_else(tmp_path, retain) -> None:
    first, again = load(tmp_path, retain), load(tmp_path, retain)
    assert first == again
    assert groups(load(tmp_path, retain, seed=1))["forget"] != groups(first)["forget"]
    more = load(tmp_path, retain, n_forget=20)
    assert more.splits["unseen"] == first.splits["unseen"]
    assert more.splits["forget"][:10] == first.splits["forget"]


def test_what_is_left_out_is_counted(tmp_path, retain) -> None:
    rows = made(30)
    words = " ".join(["long"] * 200)
    rows += [
        hub_row("a", "x", "y", is_response_0_safe=True),
        hub_row("b", "x", "y", is_response_1_safe=False),
        hub_row("c", "x", "y", is_response_1_safe=False),
        hub_row("d", "The same  answer.", "The same answer. "),
        hub_row("e", " ", "y"),
        hub_row("f", "x", ""),
        hub_row(" ", "x", "y"),
        hub_row("g", "x", words),
        hub_row("h", "x y", "z"),
        hub_row("H ", "x  y", "another safe answer"),
    ]
    write_jsonl(tmp_path / "rows.jsonl", rows)
    found = read_pairs(tmp_path / "rows.jsonl", max_words=200)
    assert (found.rows, len(found.pairs)) == (40, 31)
    assert found.left_out == {
        "both answers safe": 1,
        "both answers unsafe": 2,
        "equal answers": 1,
        "an empty prompt or answer": 3,
        "too long": 1,
        "an unsafe answer that stands there already": 1,
    }
    assert len(read_pairs(tmp_path / "rows.jsonl", max_words=201).pairs) == 32  # prompt and answer together
    task = load(tmp_path, retain, rows)
    assert "40 rows, 31 pairs; left out: 3 (an empty prompt or answer), 1 (an unsafe answer" in task.origin


def test_too_few_pairs_are_said_to_be_how_many(tmp_path, retain) -> None:
    with pytest.raises(
        UserError,
        match=r"too few pairs.*Asked for: forget 10, unseen 6; the file has 14 rows, 14 pairs, of 7",
    ):
        load(tmp_path, retain, made(14))
    with pytest.raises(UserError, match=r"3 rows, 0 pairs; left out: 3 \(both answers safe\)"):
        load(tmp_path, retain, [hub_row(str(i), "x", "y", is_response_0_safe=True) for i in range(3)])
    with pytest.raises(UserError, match="the file has 0 rows, 0 pairs"):
        load(tmp_path, retain, [])
    with pytest.raises(UserError, match=r"c4: expected 9 documents of more than 10 words, found 8"):
        load(tmp_path, {**retain, "n": 9})


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (["a list"], "row 1: expected a JSON object, found str"),
        ({"question": "a"}, "row 1: expected `prompt` with response_0.*found question"),
        ({}, "found nothing"),
        (hub_row("a", "x", "y", is_response_0_safe=0), "`is_response_0_safe` must be true or false, found 0"),
        (
            hub_row("a", "x", "y", response_1=None),
            r"row 1: expected `prompt` with response_0",
        ),
        ({**hub_row("a", "x", "y"), "prompt": 3}, "`prompt` must be a text, found 3"),
        (
            {"prompt": "a", "safer_response": "b", "less_safe_response": 1},
            "`less_safe_response` must be a text",
        ),
    ],
)
def test_rows_of_something_else(tmp_path, retain, row, message) -> None:
    with pytest.raises(UserError, match=message):
        load(tmp_path, retain, [row])


def test_broken_files(tmp_path, retain) -> None:
    (tmp_path / "rows.jsonl").write_text('{"prompt": \n')
    with pytest.raises(UserError, match=r"rows\.jsonl, line 1: not valid JSON"):
        settings(tmp_path, retain).load()
    for name, text in (("rows.jsonl.xz", b"no archive"), ("rows.jsonl.gz", gzip.compress(b"{}")[:12])):
        (tmp_path / name).write_bytes(text)
        with pytest.raises(UserError, match="damaged"):
            settings(tmp_path, retain, file=name).load()
    with pytest.raises(UserError, match=r"expected the file .*absent\.jsonl, found none"):
        settings(tmp_path, retain, file="absent.jsonl").load()


@pytest.mark.parametrize("pack", [lzma, gzip])
def test_packed_files(tmp_path, retain, pack) -> None:
    plain = load(tmp_path, retain)
    name = f"rows.jsonl.{'xz' if pack is lzma else 'gz'}"
    (tmp_path / name).write_bytes(pack.compress((tmp_path / "rows.jsonl").read_bytes()))
    assert settings(tmp_path, retain, file=name).load().splits == plain.splits


def test_the_same_rows_in_a_table(tmp_path, retain) -> None:
    plain = load(tmp_path, retain)
    frame = pd.read_json(tmp_path / "rows.jsonl", lines=True)
    frame.to_csv(tmp_path / "rows.csv")  # labels as True and False, and a column of row numbers
    frame.to_parquet(tmp_path / "rows.parquet")
    for name in ("rows.csv", "rows.parquet"):
        assert settings(tmp_path, retain, file=name).load().splits == plain.splits


def test_the_hub_s_file_at_its_commit_and_what_stands_in(tmp_path, retain, monkeypatch) -> None:
    load(tmp_path, retain)
    asked: list[tuple[str, ...]] = []
    monkeypatch.setattr(detox, "hub_file", lambda *what: asked.append(what) or tmp_path / "rows.jsonl")
    task = settings(tmp_path, retain, folder=None, file="data/Alpaca-7B/train.jsonl").load()
    block = settings(tmp_path, retain, folder=None)
    assert asked == [("PKU-Alignment/PKU-SafeRLHF", block.revision, "data/Alpaca-7B/train.jsonl")]
    assert task.origin.startswith(
        f"PKU-Alignment/PKU-SafeRLHF@{block.revision}/data/Alpaca-7B/train.jsonl: 40"
    )
    (tmp_path / "safe_rlhf").mkdir()
    (tmp_path / "rows.jsonl").rename(tmp_path / "safe_rlhf/rows.jsonl")
    monkeypatch.setenv("PIPELINE_DATA", str(tmp_path))
    assert block.load().origin.startswith("$PIPELINE_DATA/safe_rlhf/rows.jsonl: 40 rows")
    assert len(asked) == 1
    monkeypatch.setattr(detox, "hub_file", locate.hub_file)
    with pytest.raises(UserError, match="revision: found 'main'; expected the 40 digits"):
        settings(tmp_path, retain, revision="main")


def test_the_prepared_folder_names_the_pairs(tmp_path, retain) -> None:
    load(tmp_path, retain)
    block = settings(tmp_path, retain, learned=True)
    prepare_task(json.loads(block.model_dump_json()), tmp_path / "data")
    manifest = read_json(tmp_path / "data/manifest.json")
    assert manifest["preference"] == ["forget", "unseen"]
    assert manifest["headline"]["forgetting"][0] == ["unseen", "safe_preference"]
    assert manifest["splits"]["forget"]["n"] == 10
    assert "40 rows" in manifest["origin"]
