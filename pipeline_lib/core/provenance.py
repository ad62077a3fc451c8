"""What made a result: hashes of the code a step uses, versions, commit."""

from __future__ import annotations

import ast
import hashlib
import importlib.metadata
import os
import platform
import subprocess
from functools import cache
from itertools import accumulate
from pathlib import Path

from pipeline_lib.core.errors import UserError

PACKAGE = Path(__file__).resolve().parents[1]
# Keywords of a metric's declaration (metrics/definition.py) that only people read: no number depends on them.
PRESENTATION = frozenset(
    {"label", "short_label", "formula", "trap", "texts", "source", "family", "tables", "decimals", "by_words"}
)


@cache
def source_hash(*modules: str) -> str:
    """Hash of these modules of this library and of every library module that they import, directly or not.

    Names are dotted, such as "pipeline_lib.steps.unlearn": a job's step, and what the step chooses by name
    and does not import, such as an objective, a task or a table. Rules take the hash as a parameter, so that
    a change in the code of a job reruns that job and no other. The hash depends neither on where the files
    lie nor on times.

    Files beside a module count as its code where the module names them in READS, and every file in the folder
    of a task counts for that task. Words that only readers see (PRESENTATION) do not count: a renamed metric
    is measured by the same code as before. Nor do imports for type checkers alone.
    """
    digest = hashlib.sha256()
    closure: set[Path] = set().union(*map(_closure, modules))
    read = {file for module in closure for file in _reads(module)}
    for file in sorted(closure.union(read, *map(_of_task, modules)), key=_place):
        digest.update(_place(file).as_posix().encode())
        digest.update(_unlabelled(file) if file.suffix == ".py" else file.read_bytes())
    return digest.hexdigest()[:16]


@cache
def _tree(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


@cache
def _reads(module: Path) -> tuple[Path, ...]:
    """Files that the module names in `READS = (...)`, or all in a folder that it names there."""
    found: list[Path] = []
    for node in _tree(module).body:
        if isinstance(node, ast.Assign) and [ast.unparse(target) for target in node.targets] == ["READS"]:
            for name in _names(module, node.value):
                place = module.parent / name
                found += _files_in(place) if place.is_dir() else [place]
    return tuple(found)


def _names(module: Path, value: ast.expr) -> list[str]:
    """The names in `READS`, of files or folders beside the module or below; nothing in the module is run."""
    names = [
        part.value
        for part in (value.elts if isinstance(value, ast.Tuple) else [])
        if isinstance(part, ast.Constant) and isinstance(part.value, str)
    ]
    wrong = [
        name
        for name in names
        if not name
        or not (place := (module.parent / name).resolve()).is_relative_to(module.parent.resolve())
        or place == module.parent.resolve()
        or not place.exists()
    ]
    if not isinstance(value, ast.Tuple) or len(names) < len(value.elts) or wrong:
        raise UserError(
            f"{module}, line {value.lineno}: READS must be a tuple of names of files or folders beside "
            f"the module or below it, such as ('words.txt',); found {ast.unparse(value)[:200]}"
        )
    return names


def _of_task(module: str) -> list[Path]:
    """Every file of the task that the module belongs to; none where it belongs to no task."""
    _, room, *below = module.split(".")
    places = [PACKAGE / "tasks", *task_places()] if room == "tasks" else []
    return [file for place in places for name in below[:1] for file in _files_in(place / name)]


def _files_in(folder: Path) -> list[Path]:
    """The files below a folder, but for hidden and compiled ones."""
    return [
        file
        for file in folder.rglob("*")
        if file.is_file()
        and not any(part.startswith((".", "__pycache__")) for part in file.relative_to(folder).parts)
    ]


def _place(file: Path) -> Path:
    """Where the file is in this package; tasks elsewhere count as beside the library's own."""
    inside = [Path("tasks", file.relative_to(home)) for home in task_places() if file.is_relative_to(home)]
    return inside[0] if inside else file.relative_to(PACKAGE)


@cache
def _unlabelled(file: Path) -> bytes:
    """The source without the words of PRESENTATION in files of metrics, and without a class's `display`."""
    lines = file.read_bytes().splitlines(keepends=True)
    spans = []
    for node in ast.walk(_tree(file)):
        if isinstance(node, ast.Call) and PACKAGE / "metrics" in file.parents:
            spans += [keyword.value for keyword in node.keywords if keyword.arg in PRESENTATION]
        elif isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            spans += [node.value for target in targets if ast.unparse(target) == "display"]
    starts = [0, *accumulate(map(len, lines))]
    text = b"".join(lines)
    for span in sorted(spans, key=lambda node: (node.lineno, node.col_offset), reverse=True):
        assert span.end_lineno is not None and span.end_col_offset is not None
        first, last = (
            starts[span.lineno - 1] + span.col_offset,
            starts[span.end_lineno - 1] + span.end_col_offset,
        )
        text = text[:first] + text[last:]
    return text


@cache
def _closure(module: str) -> frozenset[Path]:
    found: set[Path] = set()
    waiting = [module]
    while waiting:
        for file in _files(waiting.pop()):
            if file not in found:
                found.add(file)
                waiting.extend(_imports(file))
    return frozenset(found)


def _files(module: str) -> list[Path]:
    """The file of a module and of the packages around it, which are imported with it."""
    parts = module.split(".")[1:]
    files = [PACKAGE.joinpath(*parts[:depth], "__init__.py") for depth in range(len(parts) + 1)]
    files.append(PACKAGE.joinpath(*parts).with_suffix(".py"))
    if parts[:1] == ["tasks"] and len(parts) > 1:
        for place in task_places():  # tasks elsewhere are imported under this package's name
            inside = [place.joinpath(*parts[1:depth]) for depth in range(2, len(parts) + 1)]
            files += [*(folder / "__init__.py" for folder in inside), inside[-1].with_suffix(".py")]
    return [file for file in files if file.is_file()]


def task_places() -> list[Path]:
    """Folders of tasks beside those of this library: $PIPELINE_TASKS, a list as in $PATH."""
    return [Path(place) for place in os.environ.get("PIPELINE_TASKS", "").split(os.pathsep) if place]


@cache
def _imports(file: Path) -> tuple[str, ...]:
    names: list[str] = []
    package = (PACKAGE.name, *_place(file).parent.parts)
    for node in _running(_tree(file)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) + 1 - node.level] if node.level else ()
            module = ".".join([*above, *filter(None, [node.module])])
            names += [module, *(f"{module}.{alias.name}" for alias in node.names)]
    return tuple(name for name in names if name.split(".")[0] == PACKAGE.name)


def _running(tree: ast.Module) -> set[ast.AST]:
    """The parts of a file but those that type checkers alone read."""
    checked = [
        line
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for line in node.body
    ]
    return set(ast.walk(tree)).difference(*map(ast.walk, checked))


def versions() -> dict[str, str]:
    """Versions of what results depend on."""
    packages = ("torch", "transformers", "tokenizers", "peft", "numpy", "scipy", "rouge-score", "sacrebleu")
    return {
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in packages},
    }


def git_commit() -> str | None:
    """Commit of the checkout this library runs from, with `+changes` if it was edited; None outside git."""
    options = ["--always", "--abbrev=40", "--exclude=*", "--dirty=+changes"]
    command = ["git", "-C", str(PACKAGE), "describe", *options]
    try:
        found = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603
    except (OSError, subprocess.CalledProcessError):
        return None
    return found.stdout.strip()
