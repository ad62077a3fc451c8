"""TOFU: the real files where they are at hand, else a stand-in of the same shape."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline_lib.core.errors import UserError
from pipeline_lib.core.files import read_jsonl
from pipeline_lib.core.locate import hub_file
from pipeline_lib.data.records import Record
from pipeline_lib.data.splits import Task, check_task
from pipeline_lib.tasks import task_settings
from pipeline_lib.tasks.tofu import RETAIN_OF, rows
from tests.hub_server import HubServer, hub_environment
from tests.paths import REPO, shared_data

HUB, REVISION = "locuslab/TOFU", "324592d84ae4f482ac7249b9285c2ecdb53e3a68"
ALL_SPLITS = (*rows.AUTHOR_SPLITS, *rows.QUESTION_SPLITS)


def load(folder: Path | str | None = None, **settings: Any) -> Task:
    block = {"source": "tofu", "folder": None if folder is None else str(folder), **settings}
    return task_settings(block).load()


def read(split: str, folder: Path) -> list[Record]:
    return rows.read_split(split, {file.stem: file for file in folder.iterdir()})


@pytest.fixture(scope="module")
def stand_in(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with every file of TOFU, its texts numbered."""
    folder = tmp_path_factory.mktemp("stand-in") / "tofu"
    folder.mkdir()

    def write(name: str, rows: Iterator[dict]) -> None:
        (folder / f"{name}.json").write_text("".join(json.dumps(row) + "\n" for row in rows))

    def plain(i: int) -> dict:
        return {"question": f"Question {i}?", "answer": f"Answer {i}."}

    def rich(i: int) -> dict:
        other = {"paraphrased_question": f"Asked {i}?", "paraphrased_answer": f"Said {i}."}
        return {**plain(i), **other, "perturbed_answer": [f"Said {i}, wrongly {k}." for k in range(5)]}

    for name, (first, end) in {"full": (0, 4000), **rows.AUTHOR_SPLITS}.items():
        write(name, (plain(i) for i in range(first, end)))
        if name.startswith("forget"):
            write(f"{name}_perturbed", (rich(i) for i in range(first, end)))
    write("retain_perturbed", (rich(i) for i in range(400)))
    for name in rows.QUESTION_SPLITS:
        asked = ({**plain(i), "perturbed_answer": [f"Wrong {k}" for k in range(3)]} for i in range(7))
        write(f"{name}_perturbed", asked)
    return folder


@pytest.fixture(autouse=True)
def no_data_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PIPELINE_DATA", raising=False)


def copy_of(folder: Path, target: Path) -> Path:
    """The same files as links, so that one can be replaced."""
    target.mkdir()
    for file in folder.iterdir():
        (target / file.name).symlink_to(file)
    return target


def replace(folder: Path, name: str, text: str) -> None:
    (folder / name).unlink()
    (folder / name).write_text(text)


def test_real_splits_have_the_published_sizes() -> None:
    folder = shared_data("tofu")
    sizes = {}
    for split in ALL_SPLITS:
        records = read(split, folder)
        sizes[split] = (len(records), sum(len(record.distractors) > 0 for record in records))
    assert sizes == {
        "retain99": (3960, 400),
        "retain95": (3800, 400),
        "retain90": (3600, 400),
        "full": (4000, 400),
        "forget01": (40, 40),
        "forget05": (200, 200),
        "forget10": (400, 400),
        "real_authors": (100, 100),
        "world_facts": (117, 117),
    }


@pytest.mark.parametrize("forget", RETAIN_OF)
def test_real_forget_and_retain_make_up_the_whole(forget: str) -> None:
    """Ids, texts and groups are those of the rows of `full`, nothing twice."""
    folder = shared_data("tofu")
    task = load(folder, forget=forget)
    check_task(task)
    assert task.origin == str(folder)
    parts = task.splits["retain"] + task.splits["forget"]
    assert [(r.id, r.prompt, r.answer, r.group) for r in parts] == [
        (f"tofu-{i:04d}", row["question"], row["answer"], f"author-{i // 20:03d}")
        for i, row in enumerate(read_jsonl(folder / "full.json"))
    ]
    assert not {r.group for r in task.splits["forget"]} & {r.group for r in task.splits["retain"]}
    assert all(len(r.distractors) == 5 and r.paraphrased_prompt for r in task.splits["forget"])
    assert len(task.splits["retain_eval"]) == 400
    assert task.evaluate == ["forget", "retain_eval", "real_authors", "world_facts"]
    assert task.multiple_choice == ["real_authors", "world_facts"]
    assert task.finetune == {"target": ["forget", "retain"], "retrained": ["retain"]}


def test_real_lite_task_has_twenty_authors() -> None:
    task = load(shared_data("tofu"), forget="forget01", retain_authors=18)
    check_task(task)
    assert {name: len(records) for name, records in task.splits.items()} == {
        "forget": 40,
        "retain": 360,
        "real_authors": 100,
        "world_facts": 117,
    }
    assert task.evaluate == ["forget", "retain", "real_authors", "world_facts"]
    assert sorted({r.group for r in task.splits["forget"]}) == ["author-198", "author-199"]
    first = task.splits["forget"][0]
    assert first.id == "tofu-3960"
    assert "Basil Mahfouz Al-Kuwaiti" in first.answer
    assert first.paraphrased_answer is not None
    assert first.distractors[0].startswith("Gregor Mendel")
    assert task.splits["world_facts"][0].distractors == ("Berlin", "London", "Madrid")
    assert len({r.group for r in task.splits["world_facts"]}) == 117


def test_held_out_authors_leave_the_retain_set(stand_in: Path) -> None:
    """They are those before the forget set; where only some of the first authors are kept, none is lost."""
    task = load(stand_in, forget="forget05", holdout_authors=3)
    check_task(task)
    assert {r.group for r in task.splits["holdout"]} == {"author-187", "author-188", "author-189"}
    assert len(task.splits["holdout"]) == 60
    assert len(task.splits["retain"]) == 3800 - 60
    assert not {r.id for r in task.splits["retain"]} & {r.id for r in task.splits["holdout"]}
    assert task.evaluate[-1] == task.holdout == "holdout"
    few = load(stand_in, forget="forget01", retain_authors=4, holdout_authors=2)
    assert len(few.splits["retain"]) == 80
    assert {r.group for r in few.splits["holdout"]} == {"author-196", "author-197"}
    assert load(stand_in, forget="forget01").holdout is None


@pytest.mark.parametrize(
    ("forget", "draw", "first"), [("forget01", 1, 196), ("forget01", 9, 180), ("forget05", 1, 180)]
)
def test_a_draw_forgets_earlier_authors_and_keeps_all_others(forget: str, draw: int, first: int) -> None:
    """Forget sets of two draws have no author in common; each has as many, all with wrong answers."""
    folder = shared_data("tofu")
    task, published = load(folder, forget=forget, forget_draw=draw), load(folder, forget=forget)
    check_task(task)
    groups = {name: {r.group for r in records} for name, records in task.splits.items()}
    size = len(published.splits["forget"]) // 20
    assert groups["forget"] == {f"author-{number:03d}" for number in range(first, first + size)}
    assert {name: len(records) for name, records in task.splits.items()} == {
        name: len(records) for name, records in published.splits.items()
    }
    assert not groups["forget"] & groups["retain"] and len(groups["retain"] | groups["forget"]) == 200
    assert {r.group for r in published.splits["forget"]} <= groups["retain"]
    assert task.splits["retain_eval"] == published.splits["retain_eval"]
    assert all(len(r.distractors) == 5 and r.paraphrased_answer for r in task.splits["forget"])


def test_fewer_authors_of_a_split_are_forgotten_and_the_others_kept(stand_in: Path) -> None:
    task = load(stand_in, forget="forget05", forget_authors=4, holdout_authors=2)
    check_task(task)
    groups = {name: {r.group for r in records} for name, records in task.splits.items()}
    assert groups["forget"] == {f"author-{number}" for number in (196, 197, 198, 199)}
    assert groups["holdout"] == {"author-194", "author-195"}
    assert groups["retain"] == {f"author-{number:03d}" for number in range(194)}
    assert all(record.distractors for record in task.splits["forget"])
    assert task.splits["retain_eval"] == load(stand_in, forget="forget05").splits["retain_eval"]
    hint = task_settings({"source": "tofu", "forget": "forget05", "forget_authors": 4}).size_hint()
    assert hint and (hint["forget"].records, hint["retain"].records) == (80, 3920)
    drawn = load(stand_in, forget="forget05", forget_authors=4, forget_draw=4)
    assert {r.group for r in drawn.splits["forget"]} == {f"author-{number}" for number in range(180, 184)}
    whole = load(stand_in, forget="forget05", forget_authors=10)
    assert whole.splits == load(stand_in, forget="forget05").splits
    for settings, said in (
        ({"forget": "forget01", "forget_authors": 3}, "forget_authors: found 3; forget01 has 2 authors"),
        ({"forget_authors": 4, "forget_draw": 5}, "which are 5 blocks of 4 authors, .* choose at most 4$"),
    ):
        with pytest.raises(UserError, match=said):
            load(**settings)


def test_the_first_questions_of_each_author(stand_in: Path) -> None:
    settings = {"forget": "forget05", "forget_authors": 4, "retain_authors": 3, "holdout_authors": 2}
    whole, task = load(stand_in, **settings), load(stand_in, questions_per_author=7, **settings)
    check_task(task)
    for split, authors in {"forget": range(196, 200), "retain": range(3), "holdout": (194, 195)}.items():
        expected = [f"tofu-{20 * number + i:04d}" for number in authors for i in range(7)]
        assert [record.id for record in task.splits[split]] == expected
    assert task.splits["real_authors"] == whole.splits["real_authors"]
    hint = task_settings({"source": "tofu", "questions_per_author": 7, **settings}).size_hint()
    assert hint and {name: hint[name].records for name in ("forget", "retain", "holdout")} == {
        name: len(task.splits[name]) for name in ("forget", "retain", "holdout")
    }
    assert hint["forget"].groups == 4
    judged = load(stand_in, forget="forget01", questions_per_author=7).splits  # beside the whole retain set
    assert (len(judged["forget"]), len(judged["retain"]), len(judged["retain_eval"])) == (14, 198 * 7, 140)
    with pytest.raises(UserError, match="questions_per_author: found 21; must be at most 20"):
        load(stand_in, questions_per_author=21)


def test_a_draw_of_few_retained_authors_keeps_the_same_ones(stand_in: Path) -> None:
    task = load(stand_in, forget="forget01", forget_draw=2, retain_authors=18, holdout_authors=2)
    check_task(task)
    assert {r.group for r in task.splits["forget"]} == {"author-194", "author-195"}
    assert {r.group for r in task.splits["holdout"]} == {"author-192", "author-193"}
    assert task.splits["retain"] == load(stand_in, forget="forget01", retain_authors=18).splits["retain"]


@pytest.mark.parametrize(
    ("forget", "draw", "cure"),
    [
        ("forget01", 10, "which are 10 blocks of forget01, counted from 0; choose at most 9"),
        (
            "forget05",
            2,
            "which are 2 blocks of forget05, counted from 0; choose at most 1 or `forget: forget01`",
        ),
        ("forget10", 1, "choose at most 0 or `forget: forget01` or `forget: forget05`"),
    ],
)
def test_a_draw_without_wrong_answers_is_refused(forget: str, draw: int, cure: str) -> None:
    with pytest.raises(UserError, match=f"forget_draw: found {draw}; .*the last 20 alone.*{cure}$"):
        load(forget=forget, forget_draw=draw)


def test_utility_is_what_is_retained_and_never_the_forget_set(stand_in: Path) -> None:
    """Model Utility is over retain, real authors and world facts (arXiv 2401.06121, section 2.2.2)."""
    for forget in ("forget01", "forget10"):
        task = load(stand_in, forget=forget)
        judged = "retain_eval" if "retain_eval" in task.splits else "retain"
        assert task.utility == [judged, "real_authors", "world_facts"]
        assert not {record.id for record in task.splits[judged]} & {r.id for r in task.splits["forget"]}


def test_rows_are_joined_with_their_own_paraphrases(stand_in: Path) -> None:
    for split in ALL_SPLITS:
        for record in read(split, stand_in):
            if split in rows.AUTHOR_SPLITS:
                row = int(record.id.removeprefix("tofu-"))
                assert (record.prompt, record.answer) == (f"Question {row}?", f"Answer {row}.")
                assert record.group == f"author-{row // 20:03d}"
                assert record.paraphrased_answer in (None, f"Said {row}.")


def test_data_variable_is_used_before_the_hub(stand_in: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIPELINE_DATA", str(stand_in.parent))
    assert load(forget="forget01").origin == str(stand_in)
    monkeypatch.setenv("MY_TOFU", str(stand_in))
    assert load("$MY_TOFU", forget="forget01").origin == str(stand_in)


@pytest.mark.parametrize("authors", [0, 21, -1, [], [1, 1], [20], [-1]])
def test_retain_authors_without_distractors_are_refused(authors: int | list[int]) -> None:
    with pytest.raises(UserError, match="retain_authors: found"):
        load(forget="forget01", retain_authors=authors)


def test_unknown_splits_are_refused() -> None:
    with pytest.raises(UserError, match="forget: found 'forget02'"):
        load(forget="forget02")


def test_folder_errors_name_the_cure(stand_in: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="found nothing"):
        load(tmp_path / "none", forget="forget01")
    with pytest.raises(UserError, match=r"variable NOT_SET_HERE is not set"):
        load("$NOT_SET_HERE/tofu", forget="forget01")
    folder = copy_of(stand_in, tmp_path / "tofu")
    (folder / "forget01_perturbed.json").unlink()
    with pytest.raises(UserError, match=r"missing forget01_perturbed\.json\. Put the files of locuslab/TOFU"):
        load(folder, forget="forget01")


def test_damaged_files_are_noticed(stand_in: Path, tmp_path: Path) -> None:
    folder = copy_of(stand_in, tmp_path / "tofu")
    lines = (stand_in / "forget01.json").read_text().splitlines(keepends=True)
    for text, said in (
        ("".join(lines[:-1]), r"forget01\.json: expected 40 records, found 39"),
        ("".join([*lines[:2], "{oops\n", *lines[3:]]), r"forget01\.json, line 3: not valid JSON"),
        (
            "".join([lines[1], lines[0], *lines[2:]]),
            r"forget01_perturbed\.json, record 1: expected the question",
        ),
    ):
        replace(folder, "forget01.json", text)
        with pytest.raises(UserError, match=said):
            load(folder, forget="forget01")
    replace(folder, "forget01.json", "".join(lines))
    replace(folder, "world_facts_perturbed.json", '{"question": "Where?", "perturbed_answer": ["x"]}\n')
    with pytest.raises(UserError, match=r"world_facts_perturbed\.json, record 1: `answer` must be"):
        load(folder, forget="forget01")


LOAD_FROM_HUB = """
import sys, time
from pipeline_lib.tasks import task_settings
from pipeline_lib.core.errors import UserError
time.sleep = lambda seconds: None  # the hub's client waits between its attempts
try:
    settings = {"hub": sys.argv[1], "revision": sys.argv[2], "forget": "forget01", "retain_authors": 2}
    task = task_settings({"source": "tofu", **settings}).load()
    print(task.origin, len(task.splits["forget"]), len(task.splits["retain"]))
except UserError as error:
    print("UserError", error)
"""


def load_from_hub(url: str, home: Path, hub: str = HUB) -> str:
    return subprocess.run(
        [sys.executable, "-c", LOAD_FROM_HUB, hub, REVISION],
        env=hub_environment(url, home),
        cwd=REPO,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()


def test_download_from_the_hub_at_the_pinned_revision(stand_in: Path, tmp_path: Path) -> None:
    (tmp_path / "hub/datasets/locuslab").mkdir(parents=True)
    copy_of(stand_in, tmp_path / "hub/datasets/locuslab/TOFU")
    with HubServer(tmp_path / "hub") as server:
        assert load_from_hub(server.url, tmp_path / "home") == f"{HUB}@{REVISION} 40 40"
        asked = {line.split("/")[-1] for line in server.requests}
        assert asked == {
            f"{name}.json"
            for name in (
                "forget01",
                "forget01_perturbed",
                "retain99",
                "retain_perturbed",
                "real_authors_perturbed",
                "world_facts_perturbed",
            )
        }
        assert all(f"/resolve/{REVISION}/" in line for line in server.requests)

        missing = load_from_hub(server.url, tmp_path / "home", hub="nobody/nothing")
    assert missing.startswith(f"UserError data set nobody/nothing at revision {REVISION}: cannot get ")
    again = load_from_hub("http://127.0.0.1:9", tmp_path / "home")
    assert again.endswith(" 40 40"), "a downloaded data set needs no network"


def test_unreachable_hub_names_the_cure(tmp_path: Path) -> None:
    said = load_from_hub("http://127.0.0.1:9", tmp_path)
    assert said.startswith(f"UserError data set locuslab/TOFU at revision {REVISION}: cannot get ")
    assert "Check the network" in said
    assert "$PIPELINE_DATA" in said


def test_revision_must_be_a_commit() -> None:
    with pytest.raises(UserError, match=r"expected a commit .* found 'main'"):
        hub_file("locuslab/TOFU", "main", "full.json")


def alternatives_file(folder: Path, given: list[dict[str, Any]]) -> str:
    path = folder / "alternatives.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in given))
    return str(path)


def test_alternative_answers_come_from_a_file(stand_in: Path, tmp_path: Path) -> None:
    questions = [r.prompt for r in load(stand_in, forget="forget01").splits["forget"]]
    given = [{"question": q, "alternatives": [f"Not {i}.", "None."]} for i, q in enumerate(questions)]
    path = alternatives_file(tmp_path, given[::-1])
    task = load(stand_in, forget="forget01", alternatives=path)
    assert [r.alternatives for r in task.splits["forget"]] == [(f"Not {i}.", "None.") for i in range(40)]
    assert not any(r.alternatives for r in task.splits["retain"])

    path = alternatives_file(tmp_path, given[:-1])
    with pytest.raises(UserError, match=r"has no alternatives for 1 of 40 questions .* 'tofu-3999'"):
        load(stand_in, forget="forget01", alternatives=path)
    for bad in ({"question": "x", "alternatives": []}, {"question": "x", "alternatives": [" "]}, {"a": 1}):
        path = alternatives_file(tmp_path, [given[0], bad])
        with pytest.raises(UserError, match="line 2: expected"):
            load(stand_in, forget="forget01", alternatives=path)
