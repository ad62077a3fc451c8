"""Pieces that do not fit are refused in one message: which two, what differs, what to do."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline_lib import __main__ as command
from pipeline_lib.core.errors import UserError
from pipeline_lib.operations.joining import join
from tests.operations.joining.conftest import Copied
from tests.reporting.study import without_lines

NPO = "training/authors/tiny/NPO/adamw"


def edit_json(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def edit_suite(piece: Path, change: Callable[[dict[str, Any]], None]) -> None:
    suite = yaml.safe_load((piece / "suite.yaml").read_text())
    change(suite)
    (piece / "suite.yaml").write_text(yaml.safe_dump(suite, sort_keys=False))


def replace(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def refused(out: Path, *pieces: Path) -> str:
    with pytest.raises(UserError) as caught:
        join(out, pieces)
    assert not out.exists()
    return str(caught.value)


def names(message: str, *pieces: Path) -> bool:
    return all(str(piece) in message for piece in pieces)


# --- what two pieces differ in -----------------------------------------------------------------------


def test_other_settings_of_a_shared_row(by_seed: list[Path], copied: Copied, tmp_path: Path) -> None:
    one, other = copied(by_seed)

    def change(suite: dict[str, Any]) -> None:
        suite["objectives"]["NPO"]["beta"] = 0.5
        suite["unlearn"]["epochs"] = 7
        suite["evaluation"]["max_new_tokens"] = 9

    edit_suite(other, change)
    message = refused(tmp_path / "out", one, other)
    assert message.startswith(f"{one} and {other} have other settings of the same:\n")
    assert "  objectives.NPO.beta: 0.2 and 0.5\n" in message
    assert "  unlearn.epochs: " in message and "  evaluation.max_new_tokens: " in message
    assert "Run one of the two again with the other's settings" in message


def test_a_block_of_runs_with_other_settings_of_a_shared_row(
    by_seed: list[Path], copied: Copied, tmp_path: Path
) -> None:
    one, other = copied(by_seed)
    block = {"methods": ["GradDiff", "NPO"], "optimizers": ["adamw", "sophia"], "unlearn": {"epochs": 7}}
    edit_suite(other, lambda suite: suite.update(runs=[block]))
    message = refused(tmp_path / "out", one, other)
    assert names(message, one, other) and "  authors/tiny/NPO/sophia, unlearn.epochs: " in message


def test_other_data(by_seed: list[Path], copied: Copied, tmp_path: Path) -> None:
    one, other = copied(by_seed)
    manifest = json.loads((other / "data/authors/manifest.json").read_text())
    manifest["splits"]["retain"]["sha256"] = "f" * 64
    edit_json(other / "data/authors/manifest.json", splits=manifest["splits"], notes=["words do not count"])
    message = refused(tmp_path / "out", one, other)
    assert message.startswith(f"{one} and {other} are about other data:\n")
    assert "  data of authors, splits.retain.sha256: " in message and "notes" not in message
    assert "Run one of the two again on the other's data" in message


@pytest.mark.parametrize(
    ("file", "changes", "said"),
    [
        (f"{NPO}/seed1/run.json", {"code": "n3w"}, "NPO/adamw/seed1: code n3w, but c0de in "),
        (f"{NPO}/seed1/run.json", {"training": {"epochs": 9}}, "NPO/adamw/seed1: training "),
        (f"{NPO}/seed1/run.json", {"parent": "another model"}, "made from weights another mode, but "),
        (
            "evaluations/authors/tiny/NPO/adamw/seed1/metrics.json",
            {"made_of": {"scored_by": "n3w"}},
            "NPO/adamw/seed1: code that scored it n3w, but c0de in ",
        ),
    ],
)
def test_other_code_settings_or_parents(
    file: str, changes: dict[str, Any], said: str, by_seed: list[Path], copied: Copied, tmp_path: Path
) -> None:
    one, other = copied(by_seed)
    edit_json(other / file, made_at="2025-01-01T00:00:00+00:00", **changes)
    message = refused(tmp_path / "out", one, other)
    assert " were not made of the same:\n" in message and said in message
    assert str(other) in message and "snakemake --forcerun" in message and "Or leave a piece out." in message


def test_one_run_with_two_results(by_row: list[Path], copied: Copied, tmp_path: Path) -> None:
    one, other = copied(by_row)
    path = other / "metrics.csv"
    lines = path.read_text().splitlines(keepends=True)
    place = next(i for i, line in enumerate(lines) if ",original,none,0,forget,probability," in line)
    cells = lines[place].split(",")
    found, cells[8] = cells[8], str((float(cells[9]) + float(cells[10])) / 2)
    lines[place] = ",".join(cells)
    path.write_text("".join(lines))
    message = refused(tmp_path / "out", one, other)
    assert message.startswith(
        f"{one} and {other} both have the run authors/tiny/original/none/seed0, and not the same:\n"
        f"  probability of split forget: {found} and {cells[8]}\n"
    )
    assert "split the study by seed" in message


def test_one_run_with_other_scores_or_weights(by_row: list[Path], copied: Copied, tmp_path: Path) -> None:
    one, other = copied(by_row)
    replace(
        other / "scores.csv",
        "authors,tiny,original,none,0,0,,forget,",
        "authors,tiny,original,none,0,0,,forget,x",
    )
    message = refused(tmp_path / "out", one, other)
    assert names(message, one, other) and "  scores of single questions (scores.csv)\n" in message
    edit_json(other / "training/authors/tiny/retrained/none/seed0/run.json", weights_sha256="0" * 64)
    shutil.copy(one / "scores.csv", other / "scores.csv")
    shutil.copytree(by_row[1], other, dirs_exist_ok=True)
    edit_json(other / "training/authors/tiny/retrained/none/seed0/run.json", weights_sha256="0" * 64)
    message = refused(tmp_path / "out", one, other)
    assert "retrained/none/seed0, and not the same:\n  weights: " in message


# --- holes -------------------------------------------------------------------------------------------


def test_rows_without_all_seeds(by_seed: list[Path], by_row: list[Path], tmp_path: Path) -> None:
    """A piece of seed 0 with all rows, and one of both seeds with the rows of one optimiser."""
    message = refused(tmp_path / "out", by_seed[0], by_row[0])
    assert message.startswith(
        f"{by_seed[0]} and {by_row[0]} leave holes: every row of a study has every seed."
    )
    assert "\n  authors/tiny/GradDiff/sophia: seed 1\n  authors/tiny/NPO/sophia: seed 1\n" in message
    assert "Run these as one more piece" in message


def test_no_original_of_a_seed(by_seed: list[Path], copied: Copied, tmp_path: Path) -> None:
    one, other = copied(by_seed)
    runs = json.loads((other / "runs.json").read_text())
    (other / "runs.json").write_text(json.dumps([run for run in runs if run["method"] != "original"]))
    for name in ("metrics.csv", "scores.csv", "costs.csv"):
        without_lines(other / name, ",original,")
    message = refused(tmp_path / "out", one, other)
    assert message.startswith(
        f"no `original` of seed 1 of task authors, model tiny: neither {other}, which has rows of that seed, "
        f"nor {one} has it"
    )
    assert "Run `original` of that seed" in message


# --- one piece ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["scores.csv", "metrics.csv", "suite.yaml", "data/authors/manifest.json"])
def test_a_missing_file(name: str, by_seed: list[Path], copied: Copied, tmp_path: Path) -> None:
    one, other = copied(by_seed)
    (other / name).unlink()
    message = refused(tmp_path / "out", one, other)
    assert message.startswith(f"{other}: a piece is a finished study, and this folder has no {name}. ")
    assert "Give the study's snakemake command again" in message


@pytest.mark.parametrize("name", ["scores.csv", "metrics.csv", "costs.csv"])
def test_an_unfinished_study(name: str, by_seed: list[Path], copied: Copied, tmp_path: Path) -> None:
    one, other = copied(by_seed)
    without_lines(other / name, "NPO,sophia,1,")
    message = refused(tmp_path / "out", one, other)
    assert message == (
        f"{other}: its study did not finish: {name} has nothing about authors/tiny/NPO/sophia/seed1 of "
        "runs.json. Give its snakemake command again, then join."
    )


def test_files_of_two_states(by_seed: list[Path], copied: Copied, tmp_path: Path) -> None:
    one, other = copied(by_seed)
    runs = json.loads((other / "runs.json").read_text())
    (other / "runs.json").write_text(json.dumps([run for run in runs if run["optimizer"] != "sophia"]))
    message = refused(tmp_path / "out", one, other)
    assert "has the run authors/tiny/GradDiff/sophia/seed1, which runs.json does not list" in message


@pytest.mark.parametrize("name", ["scores.csv", "metrics.csv", "costs.csv"])
def test_columns_of_another_version(name: str, by_seed: list[Path], copied: Copied, tmp_path: Path) -> None:
    one, other = copied(by_seed)
    replace(other / name, ",after", ",later")
    message = refused(tmp_path / "out", one, other)
    assert str(other / name) in message and "columns" in message and "later" in message


# --- places ------------------------------------------------------------------------------------------


def test_places_that_cannot_be(by_seed: list[Path], tmp_path: Path, capsys) -> None:
    one, other = by_seed
    taken = tmp_path / "taken"
    taken.mkdir()
    (taken / "metrics.csv").touch()
    for out, pieces, said in (
        (taken, [one, other], f"{taken} exists and was not written by `join`"),
        (one, [one, other], f"{one} and {one} are one folder"),
        (tmp_path / "out", [one, one], f"{one} and {one} are one folder"),
        (tmp_path / "out", [one], "one piece is a study already"),
        (tmp_path / "out", [one, tmp_path / "none"], f"{tmp_path / 'none'}: a piece is the results folder"),
        (tmp_path / "no name", [one, other], "suite: found 'no name'; a name becomes a folder"),
    ):
        assert command.main(["join", str(out), *map(str, pieces)]) == 1
        assert said in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


def test_an_earlier_join_that_holds_something_else(by_seed: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    (out / "models").mkdir(parents=True)
    (out / "joined.json").write_text("{}")
    with pytest.raises(UserError, match="now also holds models, which would be lost"):
        join(out, by_seed)
