"""What our messages tell a person to do: nobody is told to delete a file, which may be theirs."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from tests.paths import REPO

TELLS = re.compile(
    r"\b(delete|erase|unlink|rm -)|\bremove (the|its|their|these|those) |[,;] (or )?remove it", re.IGNORECASE
)
ABOUT_SETTINGS = {
    "False deletes unlearned models once they are evaluated",  # what `keep_models` does, not advice
}


def said(path: Path) -> Iterator[tuple[int, str]]:
    """The texts of a module that are not docstrings."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    docstrings = {
        node.body[0].value
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in docstrings:
            yield node.lineno, node.value


def test_no_message_tells_to_delete() -> None:
    texts = [
        f"{path.relative_to(REPO)}:{line}: {text}"
        for folder in ("pipeline_lib", "workflow/scripts")
        for path in sorted((REPO / folder).rglob("*.py"))
        for line, text in said(path)
        if TELLS.search(text) and text not in ABOUT_SETTINGS and " " in text
    ]
    assert texts == []


def test_the_rule_would_see_it() -> None:
    assert TELLS.search("x.json is broken. Delete the file and run again.")
    assert TELLS.search("or remove its files")
    assert TELLS.search("the file is empty; remove it")
