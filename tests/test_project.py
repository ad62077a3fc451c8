"""The project's own rules: pins in step, floors that look down only, tables without torch, no pickles."""

from __future__ import annotations

import ast
import importlib.metadata
import io
import json
import os
import re
import subprocess
import sys
import tokenize
import tomllib
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from pipeline_lib.optimizers import OPTIMIZERS
from tests.paths import REPO

PROJECT = tomllib.loads((REPO / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
RUNTIME = [Requirement(line) for line in PROJECT["dependencies"] + EXTRAS["slurm"]]
CONDA_NAMES = {"pytorch": "torch", "matplotlib-base": "matplotlib", "snakemake-minimal": "snakemake"}


def locked() -> dict[str, str]:
    """Package name (canonical) -> version in requirements.lock."""
    pins = {}
    for line in (REPO / "requirements.lock").read_text().splitlines():
        if line and not line.startswith("#"):
            requirement = Requirement(line.removesuffix("  # alone"))
            (specifier,) = requirement.specifier
            assert specifier.operator == "==" and "*" not in specifier.version, f"not an exact pin: {line}"
            pins[canonicalize_name(requirement.name)] = specifier.version
    return pins


def conda_pins() -> dict[str, str]:
    """Package name as in the lock -> version in environment.yml; python and pip are not the lock's."""
    *lines, by_pip = yaml.safe_load((REPO / "environment.yml").read_text())["dependencies"]
    pins = {}
    for line in [*lines, *(line.replace("==", " =") for line in by_pip["pip"])]:
        name, _, version = line.partition(" ")
        if name not in {"python", "pip"}:
            assert re.fullmatch(r"=\d[\w.]*", version), f"not `name =version`: {line}"
            pins[canonicalize_name(CONDA_NAMES.get(name, name))] = version.removeprefix("=")
    return pins


# --- pins -------------------------------------------------------------------------------------------


def test_the_lock_has_every_dependency_within_its_range() -> None:
    pins = locked()
    for requirement in [*RUNTIME, *map(Requirement, EXTRAS["dev"])]:
        version = pins.get(canonicalize_name(requirement.name))
        assert version, f"{requirement.name} is in pyproject.toml but not in requirements.lock: make lock"
        assert requirement.specifier.contains(version), f"{requirement}: the lock has {version}"


def test_the_lock_is_closed() -> None:
    """Whatever a locked package requires is locked too, so nothing comes in at a version of its own."""
    pins = locked()
    todo = [*RUNTIME, *map(Requirement, EXTRAS["dev"])]
    seen: set[str] = set()
    elsewhere: set[str] = set()  # required on another platform
    while todo:
        requirement = todo.pop()
        name = canonicalize_name(requirement.name)
        if str(requirement) in seen:
            continue
        seen.add(str(requirement))
        if name.startswith(("nvidia-", "cuda-")) or name == "triton":
            continue  # torch pins its CUDA packages itself
        if name == "torchvision":
            continue  # of a package that is installed alone: see the lock's head
        assert name in pins, f"{name} is required by a locked package, but is not in requirements.lock"
        for line in importlib.metadata.requires(name) or []:
            inner = Requirement(line)
            extras = ["", *requirement.extras]
            if inner.marker is None or any(inner.marker.evaluate({"extra": extra}) for extra in extras):
                todo.append(inner)
            elif "extra" not in str(inner.marker):
                elsewhere.add(canonicalize_name(inner.name))
    apart = [
        line for line in (REPO / "requirements.lock").read_text().splitlines() if line.endswith("# alone")
    ]
    assert [line.partition("==")[0] for line in apart] == ["backpack-for-pytorch", "curvlinops-for-pytorch"]
    needed = {canonicalize_name(Requirement(line).name) for line in seen} | elsewhere
    assert set(pins) <= needed, f"nothing requires {sorted(set(pins) - needed)}: make lock"


def test_the_lock_names_no_host_and_no_folder() -> None:
    for line in (REPO / "requirements.lock").read_text().splitlines():
        assert not re.search(r"://|^\s*-|\s@\s|\+", line.split("#")[0]), line
        assert "://" not in line, line


def test_the_conda_environment_has_the_same_versions_as_the_lock() -> None:
    pins, conda = locked(), conda_pins()
    assert {name: pins.get(name) for name in conda} == conda
    missing = {canonicalize_name(requirement.name) for requirement in RUNTIME} - set(conda)
    assert not missing, f"in pyproject.toml, but not in environment.yml: {sorted(missing)}"


def test_the_conda_environment_has_the_same_pythons() -> None:
    environment = yaml.safe_load((REPO / "environment.yml").read_text())
    assert f"python {PROJECT['requires-python']}" in environment["dependencies"]


def test_third_party_imports_are_declared() -> None:
    extras = [Requirement(line) for lines in PROJECT["optional-dependencies"].values() for line in lines]
    declared = {canonicalize_name(requirement.name) for requirement in [*RUNTIME, *extras]}
    declared.add("triton")  # torch's CUDA builds bring it and pin it themselves
    providers = importlib.metadata.packages_distributions()
    for module, imported in IMPORTS.items():
        for name in {target.partition(".")[0] for target in imported}:
            if name != "pipeline_lib" and name not in sys.stdlib_module_names:
                # the package of an extra that is not installed is looked for under the module's name
                packages = {canonicalize_name(package) for package in providers.get(name, [name])}
                assert packages & declared, f"{module} imports {name}, which pyproject.toml does not declare"


def test_no_test_is_skipped_for_a_package_that_dev_could_bring() -> None:
    """CI installs `dev`, and what is too large for everybody from a list of its own."""
    large = [line for line in (REPO / ".ci/tests-only.txt").read_text().splitlines() if line[0] != "#"]
    declared = {canonicalize_name(Requirement(line).name) for line in [*EXTRAS["dev"], *large]}
    providers = importlib.metadata.packages_distributions()
    asked = {
        name.partition(".")[0]
        for path in (REPO / "tests").rglob("*.py")
        for name in re.findall(r"importorskip\(\s*[\"']([\w.]+)", path.read_text(encoding="utf-8"))
    }
    assert {"tensorboard", "curvlinops"} <= asked
    for name in asked:
        packages = {canonicalize_name(package) for package in providers.get(name, [name])}
        assert packages & declared, f"tests skip without {name}, which the extra dev does not bring"


# --- files ------------------------------------------------------------------------------------------


def test_license_and_citation_agree_with_pyproject() -> None:
    citation = yaml.safe_load((REPO / "CITATION.cff").read_text())
    assert citation["version"] == PROJECT["version"]
    assert citation["license"] == PROJECT["license"] == "MIT"
    assert (REPO / "LICENSE").read_text().startswith("MIT License")


def test_the_catalog_entry_says_how_to_run() -> None:
    usage = yaml.safe_load((REPO / ".snakemake-workflow-catalog.yml").read_text())["usage"]
    assert usage["software-stack-deployment"]["conda"] is True
    assert usage["report"] is True
    assert set(usage["mandatory-flags"]) == {"desc", "flags"}


def test_the_ci_script_can_be_executed() -> None:
    assert os.access(REPO / ".ci" / "run", os.X_OK)


def sources() -> Iterator[Path]:
    """Every Python and Snakemake file of the project."""
    for folder in ("pipeline_lib", "workflow", "tests", "benchmarks"):
        for path in sorted((REPO / folder).rglob("*")):
            if path.suffix in {".py", ".smk"} or path.name == "Snakefile":
                yield path


def test_files_are_short_enough_to_read() -> None:
    lengths = {path.relative_to(REPO): len(path.read_text().splitlines()) for path in sources()}
    assert not {str(path): length for path, length in lengths.items() if length > 400}


def functions() -> Iterator[tuple[str, ast.FunctionDef]]:
    """Module and text of every function of the library, inner ones too."""
    for module, path in MODULES.items():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef):
                yield module, node


def test_functions_are_short_enough_to_read() -> None:
    lengths = {
        f"{module}.{node.name}, line {node.lineno}": (node.end_lineno or 0) - node.lineno + 1
        for module, node in functions()
    }
    assert not {name: length for name, length in lengths.items() if length > 80}
    (loop,) = [n for name, n in lengths.items() if name.startswith("pipeline_lib.training.loop.train,")]
    assert loop < 60


def test_what_crosses_a_step_is_few_typed_objects() -> None:
    """At most 8 parameters of what others call, `self` not counted, but for the updates of one equation."""
    updates = {method.update.__name__ for method in OPTIMIZERS.kinds().values() if hasattr(method, "update")}
    for module, node in functions():
        name, given = f"{module.partition('.')[2]}.{node.name}", node.args
        of_equation = node.name in updates or "triton.jit" in map(ast.unparse, node.decorator_list)
        if node.name[0] != "_" and not (part(module) == "optimizers" and of_equation):
            taken = {argument.arg for argument in (*given.posonlyargs, *given.args, *given.kwonlyargs)}
            assert len(taken - {"self", "cls"}) <= 8, f"{name} takes {', '.join(taken)}"


def test_no_pickle_no_remote_code_and_no_text_is_run() -> None:
    """Folders, suites and names come from strangers: a pickle in one, or text that is run, would run here."""
    forbidden = re.compile(
        r"\btorch \. (load|save)\b|\btrust_remote_code = True\b|\ballow_pickle = True\b"
        r"|\b(import|from) (pickle|cPickle|dill|cloudpickle|joblib|shelve)\b|\bweights_only = False\b"
        r"|(?<!\. )(?<!def )\b(eval|exec) \(|\bos \. system\b|\bshell = True\b|\byaml \. (load|unsafe_load)\b"
    )
    for path in sources():
        found = forbidden.search(code_of(path))
        assert not found, f"{path.relative_to(REPO)}: {found and found[0]}"


def code_of(path: Path) -> str:
    """The source with single spaces between tokens, without comments and strings."""
    dropped = {tokenize.COMMENT, tokenize.STRING, tokenize.NL, tokenize.NEWLINE}
    tokens = tokenize.generate_tokens(io.StringIO(path.read_text()).readline)
    return " ".join(token.string for token in tokens if token.type not in dropped)


# --- floors -----------------------------------------------------------------------------------------

FLOORS = {
    "core": 0,
    "data": 1,
    "distributed": 2,
    "metrics": 2,
    "models": 3,
    "engine": 4,
    "objectives": 4,
    "peers": 4,
    "reporting": 4,
    "tasks": 4,
    "benchmarks": 5,
    "curvature": 5,
    "smoothing": 5,
    "influence": 6,
    "optimizers": 7,
    "training": 8,
    "stages": 9,
    "study": 10,
    "operations": 11,
    "steps": 11,
    "removal": 12,
    "commands": 13,
    "__main__": 14,
}
STRANGERS = {  # what a part must know nothing of, though it lies on a lower floor
    "reporting": {"data", "models"},
    "steps": {"study"},
}
TORCH_FREE = (
    "commands",
    "core",
    "distributed.refusal",
    "metrics",
    "objectives",
    "operations",
    "peers",
    "reporting",
    "stages",
    "steps.choose",
    "steps.collect",
    "steps.describe_suite",
    "steps.figure",
    "steps.html_report",
    "steps.job",
    "steps.merge",
    "steps.score",
    "steps.table",
    "steps.widen",
    "study",
    "tasks",
    "training.settings",
)


def modules() -> dict[str, Path]:
    """Dotted name -> file, of every module of the library."""
    found = {}
    for path in sorted((REPO / "pipeline_lib").rglob("*.py")):
        parts = path.relative_to(REPO).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports_of(module: str, path: Path) -> set[str]:
    """Dotted names that a module imports anywhere in its text, also inside functions."""
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            for alias in node.names:  # `from package import module` names the module, not only the package
                inner = f"{base}.{alias.name}"
                found.add(inner if inner in MODULES else base)
    return found


MODULES = modules()
IMPORTS = {module: imports_of(module, path) for module, path in MODULES.items()}


def part(module: str) -> str:
    """`pipeline_lib.data.records` -> `data`."""
    return module.partition(".")[2].partition(".")[0]


def test_every_part_has_a_floor() -> None:
    unknown = {part(module) for module in MODULES} - set(FLOORS) - {""}
    assert not unknown, f"give {sorted(unknown)} a floor in tests/test_project.py and in CONTRIBUTING.md"


def test_contributing_names_every_part_on_its_floor() -> None:
    """A line that begins with a number opens a floor; `name/` is a folder, `name.py` a file."""
    text = (REPO / "CONTRIBUTING.md").read_text().partition("a test walks every import:")[2]
    named, floor = dict[str, int](), 0
    for line in text.partition("`reporting/`, `study/`")[0].splitlines():
        floor = int(line.split()[0]) if line[:5].strip().isdigit() else floor
        named |= dict.fromkeys(re.findall(r"(\w+)(?:/|\.py)(?=\s|$)", line), floor)
    named.pop("workflow")
    assert named == FLOORS
    assert all(
        (REPO / "pipeline_lib" / name).exists() or (REPO / "pipeline_lib" / f"{name}.py").exists()
        for name in FLOORS
    )


ARCHITECTURE = (REPO / "docs" / "architecture.md").read_text(encoding="utf-8")


def test_the_picture_of_the_floors_has_every_room_above_those_that_it_may_use() -> None:
    """A line in the frame is `│  rooms    what is there  │`, the highest floor first."""
    drawn = [
        room
        for rooms in re.findall(r"^│ {2}(\w+(?: {2}\w+)*) {3,}", ARCHITECTURE, re.MULTILINE)
        for room in rooms.split()
    ]
    assert sorted(drawn) == sorted(FLOORS)
    floors = [FLOORS[room] for room in drawn]
    assert floors == sorted(floors, reverse=True), f"redraw docs/architecture.md: {drawn}"


def test_every_file_that_the_architecture_names_is_there() -> None:
    named = set(re.findall(r"`([\w/]+/(?:\w+\.py)?)`", ARCHITECTURE))
    assert len(named) > 30
    missing = [n for n in named if not any((REPO / top / n).exists() for top in ("", "pipeline_lib"))]
    assert not missing, f"docs/architecture.md names what is not there: {sorted(missing)}"


def test_imports_look_down_only() -> None:
    for module, imported in IMPORTS.items():
        for target in imported & set(MODULES):
            here, there = part(module), part(target)
            if here and there and here != there:
                assert FLOORS[there] < FLOORS[here], f"{module} looks up to {target}, or aside"
                assert there not in STRANGERS.get(here, set()), f"{module} must know nothing of {target}"


def test_imports_make_no_circle() -> None:
    graph = {module: imported & set(MODULES) - {module} for module, imported in IMPORTS.items()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail("circle of imports: " + " <- ".join(error.args[1]))


def test_only_the_workflow_knows_snakemake() -> None:
    assert not [
        name for name, imported in IMPORTS.items() if any(t.startswith("snakemake") for t in imported)
    ]


def test_tables_and_figures_do_not_import_torch() -> None:
    """One process imports the torch-free modules one by one and stops at the first that brings torch in."""
    roots = [f"pipeline_lib.{name}" for name in TORCH_FREE]
    assert not set(roots) - set(MODULES), "a module of TORCH_FREE has moved: name it anew"
    free = [module for module in MODULES if any(f"{module}.".startswith(f"{root}.") for root in roots)]
    code = (
        "import importlib, json, sys\n"
        "for name in json.loads(sys.argv[1]):\n"
        "    importlib.import_module(name)\n"
        "    if 'torch' in sys.modules or 'transformers' in sys.modules:\n"
        "        sys.exit(name + ' imports torch')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps(free)], cwd=REPO, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
