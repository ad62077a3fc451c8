"""Which files of tests can reach a room: those that import a module of it, directly or through others."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

# Left out: cluster, distributed, failures, security and workflow, which start whole runs; device, which wants
# a GPU; core, which is below all rooms; texts, which reads pages.
FOLDERS = (
    *(
        "objectives",
        "curvature",
        "influence",
        "smoothing",
        "optimizers",
        "metrics",
        "tasks",
        "data",
        "peers",
        "stages",
    ),
    *("engine", "benchmarks", "reporting", "training", "study", "operations", "models", "steps"),
)
FINDS = re.compile(r"\b(import_module|Family)\(")  # the library's ways to look for the modules of a folder


def files_of_tests(root: Path, rooms: Sequence[str]) -> list[str]:
    """The files of tests that can reach one of the rooms, those of the rooms themselves first."""
    wanted = {root / "pipeline_lib" / room for room in rooms}
    found = []
    for folder in dict.fromkeys([*rooms, *FOLDERS]):
        for path in sorted((root / "tests" / folder).rglob("test_*.py")):
            if any(wanted & set(module.parents) for module in reached(root, path)):
                found.append(path.relative_to(root).as_posix())
    return found


def reached(root: Path, path: Path) -> set[Path]:
    """The file itself and every file of the repository that its import may bring, also inside functions."""
    found, waiting = set(), [path]
    while waiting:
        current = waiting.pop()
        if current not in found:
            found.add(current)
            waiting += imported(root, current)
    return found


@cache
def imported(root: Path, path: Path) -> tuple[Path, ...]:
    """The files that a file names in its imports, with the packages that hold them.

    A file that looks for modules when it runs is taken to import its whole folder.
    """
    text = path.read_text(encoding="utf-8")
    found = sorted(path.parent.rglob("*.py")) if FINDS.search(text) else []
    for node in ast.walk(ast.parse(text)):
        for name in _names(node, path.relative_to(root).parent):
            parts = name.split(".")
            for end in range(1, len(parts) + 1):
                place = root.joinpath(*parts[:end])
                found += [
                    file for file in (place / "__init__.py", place.with_suffix(".py")) if file.is_file()
                ]
    return tuple(dict.fromkeys(found))


def _names(node: ast.AST, package: Path) -> Iterator[str]:
    """Dotted names; of `from package import module` both the package's and the module's."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    if isinstance(node, ast.ImportFrom):
        above = package.parts[: len(package.parts) + 1 - node.level] if node.level else ()
        base = ".".join([*above, *([node.module] if node.module else [])])
        yield from (f"{base}.{alias.name}" for alias in node.names)
