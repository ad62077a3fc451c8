"""What made a result: hashes of the code a step uses, versions, commit."""

from __future__ import annotations

import ast
import hashlib
import importlib.metadata
import os
import platform
import subprocess
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent


@cache
def source_hash(module: str) -> str:
    """Hash of a module of this library and of every library module it imports, directly or not.

    `module` is dotted, e.g. "pipeline_lib.steps.unlearn". Rules take it as a parameter, so that a
    change in the code that a step uses reruns that step and no other. Texts and templates that lie
    in a package of these modules count as its code.
    """
    digest = hashlib.sha256()
    closure = _closure(module)
    packages = {file.parent for file in closure if file.name == "__init__.py"} - {PACKAGE}
    for package in packages:
        closure |= {file for file in package.rglob("*") if file.suffix in (".txt", ".html", ".css")}
    for file in sorted(closure):
        inside = file.is_relative_to(PACKAGE)
        digest.update((file.relative_to(PACKAGE).as_posix() if inside else file.name).encode())
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def _closure(module: str) -> set[Path]:
    found: set[Path] = set()
    waiting = [module]
    while waiting:
        for file in _files(waiting.pop()):
            if file not in found:
                found.add(file)
                waiting.extend(_imports(file))
    return found


def _files(module: str) -> list[Path]:
    """The file of a module and of the packages around it, which are imported with it."""
    parts = module.split(".")[1:]
    files = [PACKAGE.joinpath(*parts[:depth], "__init__.py") for depth in range(len(parts) + 1)]
    files.append(PACKAGE.joinpath(*parts).with_suffix(".py"))
    if parts[:1] == ["tasks"] and len(parts) > 1:
        for place in task_places():  # tasks that lie elsewhere have the names of this package
            inside = place.joinpath(*parts[1:])
            files += [inside / "__init__.py", inside.with_suffix(".py")]
    return [file for file in files if file.is_file()]


def task_places() -> list[Path]:
    """Folders of tasks beside those of this library: $PIPELINE_TASKS, a list as in $PATH."""
    return [Path(place) for place in os.environ.get("PIPELINE_TASKS", "").split(os.pathsep) if place]


@cache
def _imports(file: Path) -> tuple[str, ...]:
    names: list[str] = []
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
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
    try:
        commit = _git("rev-parse", "HEAD")
        dirty = _git("status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.CalledProcessError):
        return None
    return commit + ("+changes" if dirty else "")


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(PACKAGE), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()  # noqa: S603
