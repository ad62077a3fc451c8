"""A step's source hash changes with the code it uses, and with no other."""

from __future__ import annotations

import ast
import shutil
import subprocess

import pytest

from pipeline_lib.core import provenance
from pipeline_lib.core.errors import UserError
from pipeline_lib.curvature import ESTIMATORS
from pipeline_lib.influence import SOLVERS
from pipeline_lib.metrics import by_module
from pipeline_lib.objectives import OBJECTIVES
from pipeline_lib.optimizers import OPTIMIZERS

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
    for value in vars(provenance).values():
        if hasattr(value, "cache_clear"):
            value.cache_clear()


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
        "optimizers/elementwise.py",
        "objectives/__init__.py",
        "__init__.py",
        "core/errors.py",
    ],
)
def test_a_change_in_what_a_step_uses_changes_its_hash(package, file):
    before = provenance.source_hash(UNLEARN)
    assert provenance.source_hash(UNLEARN) == before
    edit(package / file)
    assert provenance.source_hash(UNLEARN) != before


@pytest.mark.parametrize(
    "file",
    [
        "steps/score.py",
        "metrics/scores.py",
        "reporting/tables/main.py",
        "models/settings.py",
        "study/suite.py",
    ],
)
def test_a_change_elsewhere_does_not(package, file):
    before = provenance.source_hash(UNLEARN)
    edit(package / file)
    assert provenance.source_hash(UNLEARN) == before


def test_the_code_of_an_objective_counts_for_the_runs_that_use_it(package):
    """With what it imports inside its functions, and nothing of the objectives that it does not use."""
    npo, rmu = (OBJECTIVES.kinds()[kind].__module__ for kind in ("NPO", "RMU"))

    def hashes():
        return [provenance.source_hash(UNLEARN, *modules) for modules in ([], [npo], [rmu])]

    def changed(file):
        before = hashes()
        edit(package / file)
        return [one != other for one, other in zip(before, hashes(), strict=True)]

    assert changed("objectives/npo.py") == [False, True, False]
    assert changed("objectives/retain.py") == [False, True, True]
    assert changed("objectives/base.py") == changed("models/forward.py") == [True, True, True]


def test_a_step_holds_no_method_that_it_does_not_name():
    """Every method is the run's choice."""
    closure = {path.relative_to(provenance.PACKAGE).as_posix() for path in provenance._closure(UNLEARN)}
    families = (OBJECTIVES, OPTIMIZERS, ESTIMATORS, SOLVERS)
    modules = {kind.__module__ for family in families for kind in family.kinds().values()}
    files = {module.removeprefix("pipeline_lib.").replace(".", "/") + ".py" for module in modules}
    assert not closure & files


@pytest.mark.parametrize(
    ("file", "module"),
    [("reporting/template/report.css", "reporting.html"), ("data/refusals.txt", "data.refusals")],
)
def test_a_file_counts_for_the_module_that_reads_it(package, file, module):
    used, other = f"pipeline_lib.{module}", "pipeline_lib.reporting.tables.main"
    before = provenance.source_hash(used), provenance.source_hash(other)
    edit(package / file)
    assert provenance.source_hash(used) != before[0]
    assert provenance.source_hash(other) == before[1]


@pytest.mark.parametrize(
    "value",
    [
        '"words.txt"',  # letters, if it were taken apart
        '("words.txt")',
        "5",
        'open("ran", "w")',
        "(str(1),)",
        '("words.txt", 3)',
        '("",)',
        '(".",)',
        '("..",)',
        '("../beside.txt",)',
        '("/etc",)',
        '("link",)',
        '("nowhere.txt",)',
    ],
)
def test_reads_names_files_beside_the_module_and_runs_nothing(tmp_path, monkeypatch, value):
    folder = tmp_path / "task"
    folder.mkdir()
    monkeypatch.chdir(folder)
    (folder / "words.txt").write_text("one")
    (folder / "lists").mkdir()
    (folder / "lists" / "more.txt").write_text("two")
    (tmp_path / "beside.txt").write_text("three")
    (folder / "link").symlink_to(tmp_path / "beside.txt")
    right, wrong = folder / "right.py", folder / "wrong.py"
    right.write_text('READS = ("words.txt", "lists")\n')
    assert provenance._reads(right) == (folder / "words.txt", folder / "lists" / "more.txt")
    wrong.write_text(f"\nREADS = {value}\n")
    with pytest.raises(UserError, match=r"wrong\.py, line 2: READS must be a tuple of names"):
        provenance._reads(wrong)
    assert not (folder / "ran").exists()


def test_every_file_beside_the_code_is_named_by_a_module():
    """A file that no module names in READS would change nothing when it is edited; a task need name none."""
    beside = {
        path for path in provenance.PACKAGE.rglob("*") if path.suffix in (".txt", ".css", ".html", ".js")
    }
    beside -= set((provenance.PACKAGE / "tasks").rglob("*"))
    assert beside == {
        file for module in provenance.PACKAGE.rglob("*.py") for file in provenance._reads(module)
    }


def test_words_for_readers_do_not_count(package):
    """A metric's label and an optimiser's shown name; the function and the range do."""
    metric, optimizer = "pipeline_lib.metrics.repetition", "pipeline_lib.optimizers.lion"

    def changed(module, old, new):
        path = package / f"{module.removeprefix('pipeline_lib.').replace('.', '/')}.py"
        text = path.read_text()
        assert old in text
        before = provenance.source_hash(module)
        path.write_text(text.replace(old, new, 1))
        forget()
        after = provenance.source_hash(module)
        path.write_text(text)
        forget()
        return after != before

    assert not changed(metric, 'label="', 'label="Other ')
    assert changed(metric, "range=(0", "range=(-1")
    assert not changed(optimizer, '] = "Lion"', '] = "Leo"')
    assert changed(optimizer, "momentum", "other")


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
    files = set().union(*map(provenance._closure, (SCORE, *by_module())))
    relative = {file.relative_to(provenance.PACKAGE).as_posix() for file in files}
    assert {"steps/score.py", "metrics/scores.py", "core/files.py", "__init__.py"} <= relative
    heavy = {"torch", "transformers", "safetensors", "tokenizers"}
    assert not {name for name in relative if third_party(provenance.PACKAGE / name) & heavy}


def test_relative_imports_are_not_used():
    """The library names its modules in full, as the `code` of a job does."""
    for file in provenance.PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            assert not (isinstance(node, ast.ImportFrom) and node.level), f"{file}: relative import"


TASK = {
    "colours/__init__.py": "from . import rows\nfrom .parts.names import NAMES\n",
    "colours/rows.py": "from ..pairs import PAIRS\n",
    "colours/parts/__init__.py": "",
    "colours/parts/names.py": "from ....data import packed\n",
    "colours/data/names.txt": "red\n",
    "colours/notes.py": "# imported by nothing\n",
    "pairs.py": "PAIRS = []\n",
}


@pytest.fixture
def task(package, tmp_path, monkeypatch):
    """A task elsewhere, with relative imports and a file of data, and another one beside it."""
    for name, text in {**TASK, "other/__init__.py": ""}.items():
        path = tmp_path / "tasks" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.setenv("PIPELINE_TASKS", str(tmp_path / "tasks"))
    forget()
    return tmp_path / "tasks"


@pytest.mark.parametrize("name", TASK)
def test_every_file_of_a_task_counts_for_it_and_for_no_other(task, name):
    used, other = "pipeline_lib.tasks.colours", "pipeline_lib.tasks.other"
    before = provenance.source_hash(used), provenance.source_hash(other)
    edit(task / name)
    assert provenance.source_hash(used) != before[0]
    assert provenance.source_hash(other) == before[1]


def test_a_relative_import_is_followed_out_of_the_task(task, package):
    before = provenance.source_hash("pipeline_lib.tasks.colours")
    edit(package / "data" / "packed.py")
    assert provenance.source_hash("pipeline_lib.tasks.colours") != before


def test_every_file_of_a_task_of_the_library_counts(package):
    used, other = "pipeline_lib.tasks.manners", "pipeline_lib.tasks.fictitious"
    before = provenance.source_hash(used), provenance.source_hash(other)
    (package / "tasks/manners/words.txt").write_text("please\n")
    forget()
    assert provenance.source_hash(used) != before[0]
    assert provenance.source_hash(other) == before[1]


def test_compiled_and_hidden_files_and_the_place_of_a_task_do_not_count(task, tmp_path, monkeypatch):
    before = provenance.source_hash("pipeline_lib.tasks.colours")
    for name in ("__pycache__/rows.cpython-311.pyc", ".rows.py.swp", ".git/HEAD"):
        path = task / "colours" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("anything")
    moved = tmp_path / "a" / "deep" / "place"
    moved.parent.mkdir(parents=True)
    task.rename(moved)
    monkeypatch.setenv("PIPELINE_TASKS", str(moved))
    forget()
    assert provenance.source_hash("pipeline_lib.tasks.colours") == before


def test_an_import_for_type_checkers_alone_does_not_count(package):
    """And one in the other branch does."""
    (package / "core" / "one.py").write_text(
        "from typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n    from pipeline_lib.core.two import T\n"
        "else:\n    from pipeline_lib.core.three import T\n"
    )
    for name in ("two", "three"):
        (package / "core" / f"{name}.py").write_text("T = int\n")
    forget()
    closure = {file.name for file in provenance._closure("pipeline_lib.core.one")}
    assert "three.py" in closure
    assert "two.py" not in closure


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
