"""Task folders: what is written, and every way in which data can be refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline_lib.core.errors import UserError
from pipeline_lib.core.files import read_json, sha256
from pipeline_lib.data.records import Record, read_records, record_from_dict, row_of
from pipeline_lib.data.splits import Task, check_disjoint, check_split
from pipeline_lib.data.task_folder import load_splits
from pipeline_lib.steps.prepare_data import prepare_task
from pipeline_lib.tasks import sources, task_settings
from pipeline_lib.tasks.base import TaskSettings

SMALL = {
    "source": "fictitious",
    "n_authors": 4,
    "questions_per_author": 3,
    "n_facts": 5,
    "forget_authors": 1,
    "seed": 3,
}


def record(i: int, **changes: Any) -> dict[str, Any]:
    row = {"id": f"r{i}", "prompt": f"Question {i}?", "answer": f"Answer {i}.", "group": f"g{i // 2}"}
    return {**row, "distractors": [f"Wrong {i}.", f"Worse {i}."], **changes}


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A folder with a user's own data, in order."""
    folder = tmp_path / "own"
    folder.mkdir()
    write(folder / "forget.jsonl", [record(i) for i in range(3)])
    write(folder / "retain.jsonl", [record(i) for i in range(10, 16)])
    write(folder / "facts.jsonl", [record(i) for i in range(20, 22)])
    return folder


def prepare_own(folder: Path, tmp_path: Path, **settings: Any) -> dict[str, Any]:
    return prepare_task({"source": "files", "folder": str(folder), **settings}, tmp_path / "out")


def test_manifest_and_files_agree(tmp_path: Path) -> None:
    out = tmp_path / "data" / "small"
    manifest = prepare_task(SMALL, out)
    assert manifest == read_json(out / "manifest.json")
    assert sorted(file.name for file in out.iterdir()) == [
        "facts.jsonl",
        "forget.jsonl",
        "manifest.json",
        "refusals.json",
        "retain.jsonl",
    ]
    assert manifest["settings"] == task_settings(SMALL).data_settings()
    assert {name: (split["n"], split["groups"]) for name, split in manifest["splits"].items()} == {
        "forget": (3, 1),
        "retain": (9, 3),
        "facts": (5, 5),
    }
    assert all(split["sha256"] == sha256(out / f"{name}.jsonl") for name, split in manifest["splits"].items())
    assert manifest["refusals"] == {"n": 100, "sha256": sha256(out / "refusals.json")}
    assert {name: manifest[name] for name in ("finetune", "evaluate", "utility", "multiple_choice")} == {
        "finetune": {"target": ["forget", "retain", "facts"], "retrained": ["retain", "facts"]},
        "evaluate": ["forget", "retain", "facts"],
        "utility": ["retain", "facts"],
        "multiple_choice": ["facts"],
    }


def test_same_settings_same_bytes(tmp_path: Path) -> None:
    first, second = (prepare_task(SMALL, tmp_path / name) for name in ("a", "b"))
    assert first["splits"] == second["splits"]
    other = prepare_task({**SMALL, "seed": 4}, tmp_path / "b")
    assert other["splits"]["forget"]["sha256"] != first["splits"]["forget"]["sha256"]


def test_written_records_are_read_back(tmp_path: Path) -> None:
    prepare_task(SMALL, tmp_path / "out")
    made = task_settings(SMALL).load().splits
    assert load_splits(tmp_path / "out", ["facts", "forget", "retain"]) == made


def test_asking_for_splits_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="prepare the data first"):
        load_splits(tmp_path / "nothing", ["forget"])
    prepare_task(SMALL, tmp_path / "out")
    with pytest.raises(UserError, match="no split 'world_facts'; it has facts, forget, retain"):
        load_splits(tmp_path / "out", ["world_facts"])


def test_a_failed_preparation_leaves_the_old_folder(own: Path, tmp_path: Path) -> None:
    before = prepare_own(own, tmp_path)
    write(own / "retain.jsonl", [record(0)])
    with pytest.raises(UserError):
        prepare_own(own, tmp_path)
    assert read_json(tmp_path / "out/manifest.json") == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "own"]


def test_own_files_that_the_model_knows_already(own: Path, tmp_path: Path) -> None:
    manifest = prepare_own(own, tmp_path, learned=False)
    assert manifest["finetune"] == {"target": []}
    assert {"forget", "retain"} <= set(manifest["evaluate"])


def test_own_files(own: Path, tmp_path: Path) -> None:
    manifest = prepare_own(own, tmp_path, facts="facts.jsonl")
    assert manifest["origin"] == str(own)
    assert manifest["finetune"] == {"target": ["forget", "retain", "facts"], "retrained": ["retain", "facts"]}
    assert manifest["multiple_choice"] == ["facts"]
    assert prepare_own(own, tmp_path)["utility"] == ["retain"]


def test_retain_is_evaluated_where_it_has_distractors(own: Path, tmp_path: Path) -> None:
    write(own / "retain.jsonl", [record(i, distractors=["Wrong."] if i < 12 else []) for i in range(10, 16)])
    manifest = prepare_own(own, tmp_path)
    assert manifest["splits"]["retain_eval"]["n"] == 2
    assert manifest["evaluate"] == ["forget", "retain_eval"]
    assert manifest["utility"] == ["retain_eval"]
    assert manifest["finetune"]["retrained"] == ["retain"]


@pytest.mark.parametrize(
    ("file", "rows", "said"),
    [
        ("forget.jsonl", [], r"forget\.jsonl: holds no record"),
        ("forget.jsonl", [record(0), record(1, answer=" ")], r"forget\.jsonl, line 2: `answer` must be"),
        ("forget.jsonl", [record(0), record(0)], r"forget\.jsonl: two records have the id 'r0'"),
        (
            "forget.jsonl",
            [record(0, distractors=[]), record(1)],
            "'forget': 1 of 2 records have no distractors",
        ),
        ("forget.jsonl", [record(0, distractors=["Answer 0. "])], "'r0': the distractor 'Answer 0. ' equals"),
        ("retain.jsonl", [record(5, distractors=["ok", ""])], "'r5': a distractor is blank"),
        ("retain.jsonl", [record(5, distractors="ok")], "line 1: `distractors` must be a list of texts"),
        ("retain.jsonl", [record(5, paraphrased_answer=3)], "`paraphrased_answer` must be"),
        ("retain.jsonl", [record(5, anwser="x")], "unknown field 'anwser'"),
        (
            "retain.jsonl",
            [record(5), record(1), record(2)],
            "2 of 3 records of 'forget' .*ids: r1 = r1, r2 = r2",
        ),
        (
            "facts.jsonl",
            [record(7, prompt="Question 1?", answer="Answer 1.")],
            r"'facts' overlap.*ids: r1 = r7",
        ),
    ],
)
def test_bad_data_is_refused(
    own: Path, tmp_path: Path, file: str, rows: list[dict[str, Any]], said: str
) -> None:
    write(own / file, rows)
    with pytest.raises(UserError, match=said):
        prepare_own(own, tmp_path, facts="facts.jsonl")


def test_corrupt_line_is_named(own: Path, tmp_path: Path) -> None:
    lines = (own / "retain.jsonl").read_text().splitlines(keepends=True)
    (own / "retain.jsonl").write_text("".join([*lines[:3], '{"id": "r13", "prom\n', *lines[4:]]))
    with pytest.raises(UserError, match=r"retain\.jsonl, line 4: not valid JSON"):
        prepare_own(own, tmp_path)


def test_missing_folder_and_file(own: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"expected a folder at .*, found nothing"):
        prepare_own(own / "none", tmp_path)
    with pytest.raises(UserError, match=r"expected a folder at .*, found a file"):
        prepare_own(own / "forget.jsonl", tmp_path)
    with pytest.raises(UserError, match=r"absent\.jsonl: no such file"):
        prepare_own(own, tmp_path, forget="absent.jsonl")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"source": "tofo"}, "source: found 'tofo'; did you mean 'tofu'"),
        ({}, "source: found nothing"),
        ({**SMALL, "n_author": 3}, "unknown key 'n_author'; did you mean 'n_authors'"),
        ({"source": "files"}, "source files: folder: is missing"),
    ],
)
def test_settings_of_no_source_are_refused(tmp_path: Path, settings: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        prepare_task(settings, tmp_path / "out")


def test_empty_forget_set_of_any_source_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full = task_settings(SMALL).load()

    def emptied(self: TaskSettings) -> Task:
        return replace(full, splits={**full.splits, "forget": []})

    monkeypatch.setattr(sources()["fictitious"], "load", emptied)
    with pytest.raises(UserError, match="'forget': expected at least one record"):
        prepare_task(SMALL, tmp_path / "out")


def test_long_lists_of_offenders_are_cut() -> None:
    records = [Record(f"r{i}", f"p{i}", f"a{i}", "g") for i in range(9)]
    with pytest.raises(UserError, match=r"9 of 9 .*r4 = r4 and 4 more"):
        check_disjoint("forget", records, "retain", records)
    with pytest.raises(UserError, match=r"found twice or more: r1$"):
        check_split("forget", [*records, records[1]])


def test_records_that_no_model_learns(own: Path, tmp_path: Path) -> None:
    """The non-members of membership inference: no wrong answers needed, and nothing that a model learned."""
    write(own / "holdout.jsonl", [record(i, distractors=[]) for i in (40, 41)])
    manifest = prepare_own(own, tmp_path, holdout="holdout.jsonl")
    assert manifest["evaluate"][-1] == "holdout"
    assert manifest["likelihood_only"] == ["holdout"]
    assert manifest["membership"] == {"members": "forget", "nonmembers": "holdout"}
    assert "holdout" not in manifest["finetune"]["target"] + manifest["utility"]
    none = prepare_own(own, tmp_path)
    assert (none["likelihood_only"], none["membership"]) == ([], None)
    for learned in ("forget", "retain"):
        known = read_records(own / f"{learned}.jsonl")[0]
        write(own / "holdout.jsonl", [record(40), {**row_of(known), "id": "copied"}])
        with pytest.raises(UserError, match=f"splits 'holdout' and '{learned}' overlap: 1 of 2"):
            prepare_own(own, tmp_path, holdout="holdout.jsonl")


def test_equal_prompts_with_other_answers_do_not_overlap() -> None:
    """TOFU asks two authors 'What is the full name of the author?'."""
    ours, theirs = Record("a", "Who?", "Ann.", "g"), Record("b", "Who?", "Bob.", "h")
    check_disjoint("forget", [ours], "retain", [theirs])


def test_optional_fields_may_be_null_or_absent() -> None:
    row: dict[str, Any] = {"id": "a", "prompt": "p", "answer": "b", "group": "g"}
    assert record_from_dict({**row, "paraphrased_prompt": None}, "here") == Record(**row)


def test_overlap_is_in_the_manifest_and_refused_above_the_bound(own: Path, tmp_path: Path) -> None:
    sentence = "The very same long sentence of eleven words stands in both sets"
    copies = [record(0, answer=sentence), record(1, answer="A short one")]
    write(own / "forget.jsonl", copies)
    write(own / "retain.jsonl", [record(10, answer=sentence), record(11)])
    write(own / "unseen.jsonl", [record(20), record(21)])
    manifest = prepare_own(own, tmp_path, holdout="unseen.jsonl", max_overlap=0.9)
    assert manifest["overlap"] == {
        "retain": {"share": 0.833333, "runs": 6, "records": 1},  # five runs, and the short answer's
        "holdout": {"share": 0.0, "runs": 6, "records": 0},
    }
    with pytest.raises(UserError, match=r"forget and retain overlap: 83\.3%.*allows 50\.0%.*r0 \(100%\)"):
        prepare_own(own, tmp_path)
