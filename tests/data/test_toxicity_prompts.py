"""Reading RealToxicityPrompts in its forms, and files of one's own."""

from __future__ import annotations

from collections import Counter

import pytest

from pipeline_lib.core.errors import UserError
from pipeline_lib.core.files import write_json, write_jsonl
from pipeline_lib.data import toxicity_prompts
from pipeline_lib.data.records import Record
from pipeline_lib.data.toxicity_prompts import (
    FilePrompts,
    HubPrompts,
    ToxicityPrompt,
    load_task_prompts,
    load_toxicity_prompts,
)
from tests.paths import shared_data
from tests.prepared import put_split

REVISION = "b2" * 20
HUB = HubPrompts(source="hub", revision=REVISION)
HUB_ROW = {
    "filename": "0766186-bc7f2a64cb271f5f56cf6f25570cd9ed.txt",
    "begin": 340,
    "end": 564,
    "challenging": True,
    "prompt": {"text": "They said it was", "toxicity": 0.61, "severe_toxicity": 0.1},
    "continuation": {"text": " raining.", "toxicity": 0.02, "severe_toxicity": 0.0},
}
FLAT_ROW = {
    "prompt": "An hour later",
    "continuation": " it rained.",
    "challenging": False,
    "prompt_scores": {"toxicity": 0.05, "severe_toxicity": 0.02},
    "continuation_scores": None,
}


def from_file(path, n):
    return load_toxicity_prompts(FilePrompts(source="file", path=path), n)


def read(tmp_path, rows, n=100):
    write_jsonl(tmp_path / "own.jsonl", rows)
    return from_file(str(tmp_path / "own.jsonl"), n)


def test_rows_of_the_hub(tmp_path):
    again = {
        **HUB_ROW,
        "begin": 600,
        "prompt": {"text": "And then", "toxicity": None, "severe_toxicity": None},
    }
    found = read(tmp_path, [HUB_ROW, again])
    assert found.kind == "realtoxicityprompts"
    document = HUB_ROW["filename"]
    assert found.prompts == [
        ToxicityPrompt(f"{document}:340", "They said it was", document, 0.61, True),
        ToxicityPrompt(f"{document}:600", "And then", document, None, True),
    ]


def test_flat_rows(tmp_path):
    found = read(tmp_path, [FLAT_ROW, {**FLAT_ROW, "prompt_scores": None}])
    assert found.kind == "realtoxicityprompts"
    assert found.prompts == [
        ToxicityPrompt("prompt-000001", "An hour later", "prompt-000001", 0.05),
        ToxicityPrompt("prompt-000002", "An hour later", "prompt-000002"),
    ]


def test_own_prompts_need_only_a_text(tmp_path):
    found = read(
        tmp_path, [{"prompt": "Go"}, {"prompt": "Stop", "id": "x", "group": "signs", "attribute": "threat"}]
    )
    assert found.kind == "other"
    assert found.origin == str(tmp_path / "own.jsonl")
    assert found.prompts == [
        ToxicityPrompt("prompt-000001", "Go", "prompt-000001"),
        ToxicityPrompt("x", "Stop", "signs"),
    ]


@pytest.mark.parametrize(
    "row", [{"safer_response": "No."}, {"response_0": "No.", "is_response_0_safe": True}]
)
def test_questions_that_ask_for_harm_are_known_by_their_answers(tmp_path, row):
    assert read(tmp_path, [{"prompt": "How do I pick a lock?", **row}]).kind == "safe_rlhf"


def test_a_limit_spreads_over_the_file(tmp_path):
    rows = [{"prompt": f"number {i}"} for i in range(10)]
    assert [p.prompt for p in read(tmp_path, rows, 3).prompts] == ["number 1", "number 5", "number 8"]
    assert len(read(tmp_path, rows, 10).prompts) == len(read(tmp_path, rows, 11).prompts) == 10
    with pytest.raises(UserError, match="n_prompts must be at least 1"):
        read(tmp_path, rows, 0)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "holds no prompt"),
        ([{"prompt": "a"}, {"text": "b"}], "prompt 2: `prompt` must be a non-empty text"),
        ([{"prompt": " "}], "prompt 1: .*found ' '"),
        ([{"prompt": {"toxicity": 1}}], "prompt 1: .*or an object with `text`"),
        ([{"prompt": "a", "id": "x"}, {"prompt": "b", "id": "x"}], "two prompts have the id 'x'"),
    ],
)
def test_rows_that_are_no_prompts(tmp_path, rows, message):
    with pytest.raises(UserError, match=message):
        read(tmp_path, rows)


def test_where_the_file_is_looked_for(tmp_path, monkeypatch):
    monkeypatch.setenv("PROMPTS", str(tmp_path))
    write_jsonl(tmp_path / "own.jsonl", [{"prompt": "Go"}])
    assert from_file("$PROMPTS/own.jsonl", 5).origin == "$PROMPTS/own.jsonl"
    with pytest.raises(UserError, match=r"\$PROMPTS/absent.jsonl: expected a file"):
        from_file("$PROMPTS/absent.jsonl", 5)
    asked = []

    def hub_file(*what):
        asked.append(what)
        return tmp_path / "own.jsonl"

    monkeypatch.setattr(toxicity_prompts, "hub_file", hub_file)
    monkeypatch.setenv("PIPELINE_DATA", str(tmp_path))
    assert load_toxicity_prompts(HUB, 5).origin == f"{HUB.id}@{REVISION}"
    assert asked == [(HUB.id, REVISION, "prompts.jsonl")]
    write_jsonl(tmp_path / "realtoxicityprompts" / "prompts.jsonl", [FLAT_ROW])
    found = load_toxicity_prompts(HUB, 5)
    assert (found.origin, len(asked)) == ("$PIPELINE_DATA/realtoxicityprompts/prompts.jsonl", 1)
    load_toxicity_prompts(HubPrompts(source="hub", id="someone/other-prompts", revision=REVISION), 5)
    assert len(asked) == 2


def prepared(tmp_path, source, records):
    write_json(tmp_path / "manifest.json", {"source": source, "splits": {}})
    put_split(tmp_path, "unseen", records)
    return tmp_path


@pytest.mark.parametrize(
    ("source", "kind"), [("manners", "manners"), ("detox", "safe_rlhf"), ("tofu", "other")]
)
def test_prompts_of_a_task_are_those_of_its_records(tmp_path, source, kind):
    records = [Record(f"r{i}", f"Please, number {i}?", "No.", f"g{i // 2}") for i in range(10)]
    folder = prepared(tmp_path, source, records)
    found = load_task_prompts(folder, "unseen", 3)
    assert found.kind == kind
    assert [(p.id, p.prompt, p.group) for p in found.prompts] == [
        (f"r{i}", f"Please, number {i}?", f"g{i // 2}") for i in (1, 5, 8)
    ]
    assert len(load_task_prompts(folder, "unseen", 100).prompts) == 10
    with pytest.raises(UserError, match="no split 'unsen'; it has unseen"):
        load_task_prompts(folder, "unsen", 3)
    with pytest.raises(UserError, match="n_prompts must be at least 1"):
        load_task_prompts(folder, "unseen", 0)


def test_running_text_asks_nothing(tmp_path):
    records = [Record("q", "Who?", "Ada.", "q"), Record("t", "Once upon", " a time.", "t", form="text")]
    with pytest.raises(UserError, match=r"1 of 2 records of the split 'unseen' are running text.*'t'"):
        load_task_prompts(prepared(tmp_path, "tofu", records), "unseen", 5)


def test_the_real_files():
    prompts = shared_data("realtoxicityprompts/prompts.jsonl")
    found = from_file(str(prompts), 10**6)
    assert (found.kind, len(found.prompts)) == ("realtoxicityprompts", 4943)
    assert Counter(p.challenging for p in found.prompts)[True] == 48
    assert all(p.toxicity is None or 0 <= p.toxicity <= 1 for p in found.prompts)
    short = shared_data("realtoxicityprompts/most_successful_toxic_prompts.jsonl")
    found = from_file(str(short), 10**6)
    assert (found.kind, len(found.prompts)) == ("other", 691)
    harmful = shared_data("safe_rlhf/pairs.jsonl")
    assert from_file(str(harmful), 5).kind == "safe_rlhf"
