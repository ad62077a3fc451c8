"""The library as it is installed: a wheel with the workflow and the suites, run in an empty folder."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from pipeline_lib.commands.run import suite_file
from pipeline_lib.core.errors import UserError
from pipeline_lib.core.shipped import WORKFLOW, suites
from pipeline_lib.operations import launching
from tests.paths import REPO

BUILD = "import sys; from setuptools import build_meta; build_meta.build_{}(sys.argv[1])"
PARTS = ("pipeline_lib", "workflow", "config")
FILES = (
    "setup.py",
    "MANIFEST.in",
    "pyproject.toml",
    "README.md",
    "LICENSE",
    "config.yaml",
    "environment.yml",
)


def python(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": "", "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel that is built from the sdist that is built from a copy of the project."""
    folder = tmp_path_factory.mktemp("built")
    copy, unpacked, target = folder / "copy", folder / "sdist", folder / "installed"
    for part in PARTS:
        shutil.copytree(REPO / part, copy / part, ignore=shutil.ignore_patterns("__pycache__"))
    for name in (*FILES, "requirements.lock"):
        shutil.copy(REPO / name, copy / name)
    done = python("-c", BUILD.format("sdist"), str(folder), cwd=copy)
    assert done.returncode == 0, done.stderr
    (archive,) = folder.glob("*.tar.gz")
    with tarfile.open(archive) as handle:
        handle.extractall(unpacked, filter="data")
    (source,) = unpacked.iterdir()
    done = python("-c", BUILD.format("wheel"), str(folder), cwd=source)
    assert done.returncode == 0, done.stderr
    (wheel,) = folder.glob("*.whl")
    pip = ("-m", "pip", "install", "-q", "--no-deps", "--no-index", "--target", str(target), str(wheel))
    done = python(*pip, cwd=folder)
    assert done.returncode == 0, done.stderr
    return target


def test_the_wheel_holds_every_file_of_the_workflow_and_every_suite(installed: Path) -> None:
    package = installed / "pipeline_lib"
    for part in PARTS:
        wanted = {
            path.relative_to(REPO / part)
            for path in (REPO / part).rglob("*")
            if path.is_file() and "__pycache__" not in path.parts
        }
        place = package if part == "pipeline_lib" else package / part
        missing = [path for path in wanted if not (place / path).is_file()]
        assert not missing, f"the wheel lacks {missing[:5]} of {part}"
    assert not (installed / "workflow").exists() and not (installed / "config").exists()


def test_the_first_jobs_of_the_demo_run_in_an_empty_folder(installed: Path, tmp_path: Path) -> None:
    run = ("-m", "pipeline_lib", "run", "demo", "--cores", "1", "--snakemake")
    made = "results/demo/data/book/manifest.json"
    done = python(*run, made, cwd=tmp_path, PYTHONPATH=str(installed))
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / made).is_file()
    assert "jobs of the whole study are done" in done.stdout
    log = (tmp_path / "results/demo/logs/prepare_data/book.log").read_text()
    assert str(REPO) not in log
    refused = python(*run, "results/demo/nothing", cwd=tmp_path, PYTHONPATH=str(installed))
    assert refused.returncode and "results/demo/nothing" in refused.stderr, "Snakemake's own words"


def test_commands_of_an_installed_library_find_what_comes_with_it(installed: Path, tmp_path: Path) -> None:
    done = python("-m", "pipeline_lib", "schema", "--check", cwd=tmp_path, PYTHONPATH=str(installed))
    assert done.returncode == 0 and str(installed) in done.stdout, done.stderr


def test_a_suite_is_a_file_or_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert WORKFLOW == REPO / "workflow"
    assert suite_file(None) == suite_file("demo") == REPO / "config.yaml"
    assert suite_file("core") == REPO / "config" / "core.yaml"
    assert set(suites()) == {"demo", *(path.stem for path in (REPO / "config").glob("*.yaml"))}
    Path("config.yaml").touch()
    Path("core").touch()
    assert suite_file(None) == Path("config.yaml") and suite_file("core") == Path("core")
    assert suite_file("mine.yaml") == Path("mine.yaml"), "what is not there is told by its reader"
    with pytest.raises(UserError, match=r"kore: expected a suite file or a suite's name; .*core"):
        suite_file("kore")


def test_a_request_to_end_goes_to_snakemake() -> None:
    program = "import signal, time; signal.signal(signal.SIGTERM, lambda *_: exit(7)); print(flush=True)"
    with subprocess.Popen(
        [sys.executable, "-c", f"{program}; time.sleep(600)"], stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None and process.stdout.readline()
        with launching._passing_on(process):
            os.kill(os.getpid(), signal.SIGTERM)
            assert launching._ended(process) == 7
