"""A step's source hash changes with the code it uses, and with no other."""

from __future__ import annotations

import ast
import shutil
import subprocess

import pytest

from pipeline_lib import provenance

UNLEARN, SCORE = "pipeline_lib.steps.unlearn", "pipeline_lib.steps.score"


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A copy of the library that may be edited."""
    copy = tmp_path / "pipeline_lib"
    shutil.copytree(provenance.PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(provenance, "PACKAGE", copy)
    forget()
    yield copy
    forget()


def forget():
    provenance.source_hash.cache_clear()
    provenance._imports.cache_clear()


def edit(path):
    path.write_text(path.read_text() + "\n# edited\n")
    forget()


@pytest.mark.parametrize(
    "file",
    [
        "steps/unlearn.py",
        "steps/common.py",
        "training/loop.py",
        "training/schedule.py",  # through training/loop.py
        "objectives/npo.py",  # through objectives/__init__.py
        "optimizers/elementwise.py",
        "objectives/__init__.py",
        "__init__.py",
        "errors.py",
    ],
)
def test_a_change_in_what_a_step_uses_changes_its_hash(package, file):
    before = provenance.source_hash(UNLEARN)
    assert provenance.source_hash(UNLEARN) == before
    edit(package / file)
    assert provenance.source_hash(UNLEARN) != before


@pytest.mark.parametrize(
    "file", ["steps/score.py", "evaluation/score.py", "reporting/tables/main.py", "config/models.py"]
)
def test_a_change_elsewhere_does_not(package, file):
    before = provenance.source_hash(UNLEARN)
    edit(package / file)
    assert provenance.source_hash(UNLEARN) == before


def test_a_new_objective_file_counts_once_it_is_listed(package):
    before = provenance.source_hash(UNLEARN)
    (package / "objectives" / "new.py").write_text("VALUE = 1\n")
    forget()
    assert provenance.source_hash(UNLEARN) == before
    registry = package / "objectives" / "__init__.py"
    registry.write_text(registry.read_text() + "from pipeline_lib.objectives import new\n")
    forget()
    listed = provenance.source_hash(UNLEARN)
    edit(package / "objectives" / "new.py")
    assert len({before, listed, provenance.source_hash(UNLEARN)}) == 3


def test_a_template_counts_for_the_steps_whose_package_holds_it(package):
    report = "pipeline_lib.reporting.html"
    before = provenance.source_hash(report), provenance.source_hash(UNLEARN)
    (package / "reporting" / "added.css").write_text("body {}\n")
    forget()
    assert provenance.source_hash(report) != before[0]
    assert provenance.source_hash(UNLEARN) == before[1]


def test_a_copy_elsewhere_has_the_same_hash(tmp_path, monkeypatch):
    here = {name: provenance.source_hash(name) for name in (UNLEARN, SCORE)}
    copy = tmp_path / "deep" / "pipeline_lib"
    shutil.copytree(provenance.PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(provenance, "PACKAGE", copy)
    forget()
    assert {name: provenance.source_hash(name) for name in here} == here
    forget()


def third_party(file):
    """Top-level names that a file imports, anywhere in its text."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.split(".")[0])
    return found


def test_scoring_uses_no_file_that_imports_torch():
    files = provenance._closure(SCORE)
    relative = {file.relative_to(provenance.PACKAGE).as_posix() for file in files}
    assert {"steps/score.py", "evaluation/score.py", "files.py", "__init__.py"} <= relative
    heavy = {"torch", "transformers", "safetensors", "tokenizers"}
    assert not {name for name in relative if third_party(provenance.PACKAGE / name) & heavy}


def test_relative_imports_are_not_used():
    """`source_hash` reads absolute imports only, so a relative one would hide a dependency from it."""
    for file in provenance.PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            assert not (isinstance(node, ast.ImportFrom) and node.level), f"{file}: relative import"


def test_versions_name_what_results_depend_on():
    versions = provenance.versions()
    assert {"python", "torch", "transformers", "tokenizers", "numpy"} <= set(versions)
    assert all(versions.values())


def test_the_commit_says_whether_the_checkout_was_edited(tmp_path, monkeypatch):
    monkeypatch.setattr(provenance, "PACKAGE", tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert provenance.git_commit() is None

    def git(*arguments):
        command = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@example.org"]
        return subprocess.run(
            [*command, *arguments], check=True, capture_output=True, text=True
        ).stdout.strip()

    git("init", "--quiet")
    (tmp_path / "a.py").write_text("1\n")
    git("add", "a.py")
    git("commit", "--quiet", "--message", "first")
    commit = git("rev-parse", "HEAD")
    assert provenance.git_commit() == commit
    (tmp_path / "notes.txt").write_text("not part of the code\n")
    assert provenance.git_commit() == commit
    (tmp_path / "a.py").write_text("2\n")
    assert provenance.git_commit() == f"{commit}+changes"
