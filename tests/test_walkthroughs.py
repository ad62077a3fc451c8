"""The walkthroughs of docs/, done as they stand in a folder that holds nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline_lib.core.files import read_json
from tests.paths import REPO
from tests.walkthroughs import Step, files, page, run, shortened, steps

OF_A_CHECKOUT = ("make ", ". .venv", "snakemake ")


def write(folder: Path, name: str) -> list[Step]:
    """Write the files of a page, and return its commands that need no checkout."""
    text = page(name)
    for title, content in files(text).items():
        path = folder / title
        path.parent.mkdir(exist_ok=True)
        path.write_text(content, encoding="utf-8")
    return [step for step in steps(text) if not step.command.startswith(OF_A_CHECKOUT)]


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the page of own data was followed; the page of removals goes on there."""
    folder = tmp_path_factory.mktemp("own")
    commands = write(folder, "walkthroughs/own-data")
    assert [step.command for step in commands] == [
        "unlearning validate mine.yaml",
        "unlearning plan mine.yaml",
        "unlearning run mine.yaml",
    ]
    run(commands, folder)
    return folder


def test_own_data_go_from_two_files_to_a_study_that_can_start(own: Path) -> None:
    assert {path.name for path in own.iterdir()} >= {"my-data", "mine.yaml", "real.yaml"}


def test_the_suite_for_a_real_model_says_what_is_missing(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pipeline_lib.core.errors import UserError
    from pipeline_lib.operations.plan import check_inputs
    from pipeline_lib.study import load_suite

    monkeypatch.chdir(own)
    monkeypatch.delenv("MY_MODEL", raising=False)
    suite = load_suite(Path("real.yaml"))
    assert not suite.tasks["own"].has_retrained()
    with pytest.raises(UserError, match="MY_MODEL is not set"):
        check_inputs(suite)


def test_a_removal_request_is_checked_with_a_model_that_knows_the_texts(own: Path) -> None:
    run(write(own, "walkthroughs/removal"), own)
    assert (own / "results/mine/models/own/tiny/original/none/seed0/model.safetensors").is_file()
    asked = read_json(own / "removal" / "request.json")
    assert asked["utility"] == 0.5 and asked["budget"] == 10
    assert {path.stem for path in (own / "removal/data").glob("*.jsonl")} == {"forget", "retain", "holdout"}


def test_a_paper_is_reproduced_in_small_and_planned_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("OPT_1_3B", "COPYRIGHTED_BOOK", "REAL_TOXICITY_PROMPTS"):
        monkeypatch.delenv(variable, raising=False)
    (tmp_path / "config").symlink_to(REPO / "config")
    run(write(tmp_path, "walkthroughs/paper"), tmp_path)


def test_the_start_is_a_study_that_can_start(tmp_path: Path) -> None:
    commands = write(tmp_path, "start")
    assert commands.pop().command == "unlearning run first.yaml", "which own-data does with its suite"
    run(commands, tmp_path)


def test_long_commands_alone_are_shortened() -> None:
    assert shortened("unlearning run a.yaml") == "unlearning run a.yaml --snakemake --dry-run"
    assert shortened("unlearning forget --out x") == "unlearning forget --out x --dry-run"
    for command in ("unlearning plan a.yaml", "unlearning run a.yaml --snakemake m/original/none/seed0"):
        assert shortened(command) == command
