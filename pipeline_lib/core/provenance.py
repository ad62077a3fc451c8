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

    Files beside a module count as its code where the module names them in READS. Words that only readers
    see (PRESENTATION) do not count: a renamed metric is measured by the same code as before.
    """
    digest = hashlib.sha256()
    closure: set[Path] = set().union(*map(_closure, modules))
    for file in sorted(closure | {read for module in closure for read in _reads(module)}):
        inside = file.is_relative_to(PACKAGE)
        digest.update((file.relative_to(PACKAGE).as_posix() if inside else file.name).encode())
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
            for name in ast.literal_eval(node.value):
                place = module.parent / name
                found += [file for file in place.rglob("*") if file.is_file()] if place.is_dir() else [place]
    return tuple(found)


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
            inside = place.joinpath(*parts[1:])
            files += [inside / "__init__.py", inside.with_suffix(".py")]
    return [file for file in files if file.is_file()]


def task_places() -> list[Path]:
    """Folders of tasks beside those of this library: $PIPELINE_TASKS, a list as in $PATH."""
    return [Path(place) for place in os.environ.get("PIPELINE_TASKS", "").split(os.pathsep) if place]


@cache
def _imports(file: Path) -> tuple[str, ...]:
    names: list[str] = []
    for node in ast.walk(_tree(file)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return tuple(name for name in names if name.split(".")[0] == PACKAGE.name)


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
