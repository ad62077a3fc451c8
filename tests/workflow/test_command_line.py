"""Calls of snakemake that cannot mean what they say end with one message, before anything is read or run."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from pipeline_lib.core.files import read_json
from tests.paths import REPO
from tests.workflow.study import SUITE, Study


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Study:
    made = Study(tmp_path_factory.mktemp("typed") / "project", SUITE)
    (made.folder / "broken.yaml").write_text("suite: [")
    (made.folder / "bytes.yaml").write_bytes(b"\xff\xfe a")
    (made.folder / "empty.yaml").write_text("")
    (made.folder / "list.yaml").write_text("- a\n")
    (made.folder / "folder").mkdir()
    return made


def call(study: Study, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "snakemake", "--dry-run", "--cores", "1", *arguments],
        check=False,
        cwd=study.folder,
        env=study.environment(),
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--configfile", "missing.yaml"], "missing.yaml: cannot be read (No such file or directory)"),
        (["--configfile", "siute.yaml"], "; did you mean suite.yaml?"),
        (["--configfile", "folder"], "folder: expected a suite file, found a folder"),
        (["--configfile", "bytes.yaml"], "bytes.yaml: not UTF-8"),
        (["--configfile", "broken.yaml"], "broken.yaml: not valid YAML: line 1, column 9"),
        (["--configfile", "empty.yaml"], "empty.yaml: a suite is a block of `name: value` lines"),
        (["--configfile", "list.yaml"], "list.yaml: a suite is a block of `name: value` lines, found"),
        (["--configfile", "suite.yaml", "config.yaml"], "found suite.yaml, config.yaml; expected one file"),
        (
            ["--configfile", "config.yaml", "--configfile=suite.yaml"],
            "found 2 times the option; expected one file",
        ),
        (
            ["--configfile", "suite.yaml", "results/small/runs.json"],
            "so took results/small/runs.json; expected one suite file. Write what is to be made before it",
        ),
        (
            ["--config", "seeds=[0]", "results/small/runs.json"],
            "--config: expected NAME=VALUE, found 'results/",
        ),
        (
            ["--configfile", "suite.yaml", "--config", "sedes=[0]"],
            "sedes: unknown key 'sedes'; did you mean 'seeds'",
        ),
        (["suite.yaml"], "A suite stands after its option: snakemake --configfile suite.yaml"),
    ],
)
def test_one_message_and_no_traceback(study: Study, arguments: list[str], expected: str) -> None:
    done = call(study, *arguments)
    assert done.returncode != 0
    assert expected in done.stdout
    assert "Traceback" not in done.stdout and ", line 1, in" not in done.stdout
    assert not (study.folder / "results").exists()


def test_the_snakefile_checks_calls_without_a_profile(study: Study) -> None:
    done = call(study, "--workflow-profile", "none", "--configfile", "suite.yaml", "config.yaml")
    assert done.returncode != 0 and "found suite.yaml, config.yaml; expected one file" in done.stdout


@pytest.mark.parametrize("profile", ["slurm", "kubernetes"])
def test_the_other_profiles_check_first_too(study: Study, profile: str) -> None:
    done = call(study, "--workflow-profile", f"workflow/profiles/{profile}", "--configfile", "missing.yaml")
    assert done.returncode == 1 and "Traceback" not in done.stdout
    assert "error: missing.yaml: cannot be read" in done.stdout


def test_a_list_on_the_command_line_is_read_as_in_a_file(study: Study) -> None:
    typed = ["--configfile", "suite.yaml", "--config", "seeds=[3,5]", "unlearn={'epochs': 2}"]
    command = [sys.executable, "-m", "snakemake", "--cores", "1", "results/small/runs.json", *typed]
    done = subprocess.run(
        command, check=False, cwd=study.folder, env=study.environment(), text=True, capture_output=True
    )
    assert done.returncode == 0, done.stderr
    runs = read_json(study.folder / "results/small/runs.json")
    assert {run["seed"] for run in runs} == {3, 5}
    assert "epochs: 2" in (study.folder / "results/small/suite.yaml").read_text()


@pytest.fixture
def module() -> ModuleType:
    """workflow/command_line.py, which is in no package."""
    spec = importlib.util.spec_from_file_location("command_line", REPO / "workflow/command_line.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_text_that_is_no_number_stays_text(module: ModuleType) -> None:
    value = {"seeds": ["0", "1"], "suite": "a", "x": {"on": "true", "kept": "7"}, "file": "7"}
    typed = {"seeds": ["0", "1"], "suite": "a", "x": {"on": "true"}}
    assert module.read_again(value, typed) == {
        "seeds": [0, 1],
        "suite": "a",
        "x": {"on": True, "kept": "7"},
        "file": "7",
    }
    assert module.read_again({"a": "[b"}, {"a": "[b"}) == {"a": "[b"}


@pytest.mark.parametrize(
    ("arguments", "jobs", "is_main"),
    [
        (["--cores", "2"], 0, True),
        (["--mode", "remote", "--target-jobs", "score:run=a", "score:run=b", "--cores", "1"], 2, False),
    ],
)
def test_the_jobs_of_a_group_are_counted(
    arguments: list[str], jobs: int, is_main: bool, module: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["/bin/snakemake", *arguments])
    assert module.jobs_of_the_group() == jobs and (module.given() is not None) == is_main


def test_outside_the_environment_the_cure_is_named(tmp_path: Path) -> None:
    for name in ("pydantic", "yaml"):
        (tmp_path / f"{name}.py").write_text(
            f'raise ModuleNotFoundError("no module {name}", name="{name}")\n'
        )
    done = subprocess.run(
        [sys.executable, "-m", "pipeline_lib", "validate", "config.yaml"],
        cwd=REPO,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert done.stderr.startswith("the package ") and "`make setup`" in done.stderr
