"""The project's own code: no shell, so that no name is ever read by one; no code of strangers."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.paths import REPO

PYTHON = sorted(
    path for part in ("pipeline_lib", "workflow", "benchmarks") for path in (REPO / part).rglob("*.py")
)
RULES = [REPO / "workflow" / "Snakefile", *sorted((REPO / "workflow" / "rules").glob("*.smk"))]
SHELLS = {"system", "popen", "getoutput", "getstatusoutput", "spawnl", "spawnlp", "execl", "execlp"}
RUNS_TEXT = {"eval", "exec", "compile", "__import__"}


def calls(path: Path) -> Iterator[tuple[str, ast.Call]]:
    """Every call of a file with the name of what is called: (`run`, `subprocess.run(...)`)."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            yield getattr(node.func, "attr", getattr(node.func, "id", "")), node


@pytest.mark.parametrize("path", RULES, ids=lambda path: path.name)
def test_every_rule_runs_a_script(path: Path) -> None:
    """`shell:` would put names of tasks and models into a command line, unquoted unless one thinks of it."""
    text = re.sub(r'"""(?s:.*?)"""|#.*', "", path.read_text(encoding="utf-8"))
    assert not re.search(r"^\s*(shell|run|notebook|wrapper|cwl)\s*:", text, re.MULTILINE)
    assert "shell(" not in text and "shell.executable" not in text


def test_no_code_starts_a_shell_or_runs_text() -> None:
    assert len(PYTHON) > 200
    for path in PYTHON:
        for name, call in calls(path):
            method = isinstance(call.func, ast.Attribute)
            where = f"{path.relative_to(REPO)}, line {call.lineno}"
            assert name not in SHELLS, where
            assert method or name not in RUNS_TEXT, where  # model.eval() and re.compile() are others
            for keyword in call.keywords:
                off = isinstance(keyword.value, ast.Constant) and keyword.value.value is False
                assert keyword.arg not in ("shell", "trust_remote_code") or off, where
            if name == "load" and method and getattr(call.func, "value", None) is not None:
                assert ast.unparse(call.func) not in ("yaml.load", "torch.load", "joblib.load"), where


def test_every_reader_of_models_says_no_to_their_code() -> None:
    """transformers asks on the terminal where nothing is said; a job has none."""
    readers = 0
    for path in PYTHON:
        text = path.read_text(encoding="utf-8")
        if ".from_pretrained(" in text and "pipeline_lib" in path.parts:
            readers += 1
            assert '"trust_remote_code": False' in text or "trust_remote_code=False" in text, path
    assert readers >= 3
