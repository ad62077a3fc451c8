"""What stands around the library for others: the container, the CI, the forms and the list of changes."""

from __future__ import annotations

import os
import re
import tomllib

import pytest
import yaml

from tests.paths import REPO

PROJECT = tomllib.loads((REPO / "pyproject.toml").read_text())["project"]
PYTHONS = range(*(int(minor) for minor in re.findall(r"3\.(\d+)", PROJECT["requires-python"])))
INSTRUCTIONS = {"FROM", "ENV", "COPY", "RUN", "USER", "WORKDIR", "ENTRYPOINT"}


def instructions() -> list[tuple[str, str]]:
    """Each instruction of the Dockerfile with its words; a line that ends in a backslash goes on."""
    text = re.sub(r"\\\n\s*", "", (REPO / "Dockerfile").read_text())
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [(line.split()[0], line.partition(" ")[2]) for line in lines]


def test_the_container_copies_what_there_is_and_what_the_wheel_needs() -> None:
    found = instructions()
    assert {name for name, _ in found} == INSTRUCTIONS and found[0][0] == "FROM"
    copied = [word for name, words in found if name == "COPY" for word in words.split()[:-1]]
    assert all((REPO / name).exists() for name in copied)
    let_in = {line[1:] for line in (REPO / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert let_in == set(copied)
    read_by_setup = set(re.findall(r'"([\w.]+)"', (REPO / "setup.py").read_text())) & {
        path.name for path in REPO.iterdir()
    }
    assert {"workflow", "config", "config.yaml", "environment.yml"} <= read_by_setup
    assert read_by_setup <= set(copied)


def test_the_container_has_a_python_that_the_project_supports_and_is_not_root() -> None:
    found = dict(instructions())
    (minor,) = re.findall(r"^python:3\.(\d+)-", found["FROM"])
    assert int(minor) in PYTHONS
    assert found["USER"] != "root" and found["ENTRYPOINT"] == '["unlearning"]'
    assert "unlearning" in PROJECT["scripts"]


def test_the_ci_runs_on_the_oldest_and_the_newest_python_what_everybody_can_run() -> None:
    ci = yaml.safe_load((REPO / ".github" / "workflows" / "ci.yml").read_text())
    (job,) = ci["jobs"].values()
    assert job["strategy"]["matrix"]["python"] == [f"3.{PYTHONS[0]}", f"3.{PYTHONS[-1]}"]
    commands = [step["run"] for step in job["steps"] if "run" in step]
    assert commands == [".ci/run"] and os.access(REPO / ".ci" / "run", os.X_OK)
    assert ci["permissions"] == {"contents": "read"}


@pytest.mark.parametrize("path", sorted((REPO / ".github" / "ISSUE_TEMPLATE").glob("*.yml")), ids=str)
def test_a_form_asks_for_something_and_each_answer_has_a_name(path) -> None:  # type: ignore[no-untyped-def]
    form = yaml.safe_load(path.read_text())
    assert form["name"] and form["description"]
    names = [field["id"] for field in form["body"]]
    assert len(set(names)) == len(names) and all(field["attributes"]["label"] for field in form["body"])


def test_the_changes_begin_with_this_version() -> None:
    versions = re.findall(r"^## ([\d.]+)", (REPO / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert versions[0] == PROJECT["version"]
    citation = yaml.safe_load((REPO / "CITATION.cff").read_text())
    assert citation["version"] == PROJECT["version"]
