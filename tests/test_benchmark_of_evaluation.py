"""benchmarks/evaluation.py says what a peer lacks before it measures anything, and prints rows one by one."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.paths import REPO

SCRIPT = REPO / "benchmarks" / "evaluation.py"


@pytest.fixture
def benchmark(monkeypatch):
    """The script as a module that new processes can import too."""
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    return importlib.import_module(SCRIPT.stem)


def peer(folder: Path, **files: str) -> Path:
    """A checkout with these files below src/."""
    for name, text in files.items():
        path = folder / "src" / f"{name.replace('__', '/')}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def test_everything_that_is_missing_is_told_before_the_first_measurement(tmp_path):
    lacking = "import a_module_that_nobody_has\n"
    tofu = peer(tmp_path / "open", data__qa="", evals__tofu=lacking)
    soul = peer(tmp_path / "soul", metrics__Tofu="raise SystemExit('needs a licence')\n")
    arguments = ["--peer", str(tofu), "--peer", str(soul), "--data", str(tmp_path), "--model", "nowhere"]
    done = subprocess.run(
        [sys.executable, str(SCRIPT), *arguments], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert done.returncode == 2 and "Traceback" not in done.stderr
    said = done.stderr.partition("nothing is measured before all of this is there:")[2].splitlines()[1:]
    assert [line.strip() for line in said] == [
        f"--data: no file {tmp_path / 'forget10_perturbed.json'}",
        "--model: no file nowhere/config.json",
        f"--peer {tofu}: needs the module a_module_that_nobody_has, which is not installed for "
        f"{sys.executable}",
        f"--peer {soul}: SystemExit: needs a licence",
    ]
    assert not (tmp_path / "results").exists() and not done.stdout


def test_a_peer_that_has_what_it_needs_is_let_through(benchmark, tmp_path):
    soul = peer(tmp_path / "soul", metrics__Tofu="def eval_tofu_forget(*_): return None\n")
    options = benchmark.argparse.Namespace(data=None, model=None)
    assert benchmark._missing(options, {"tofu": [], "soul": [soul]}) == []


def test_each_row_is_printed_when_it_is_there_and_a_failure_loses_none(benchmark, capsys):
    def result(cpu: float, ratio: float) -> dict[str, Any]:
        values = {"truth ratio": [ratio, 0.5], "answers": ["a ", "b"], "ended": [True, False]}
        return {"values": values, "cpu": cpu, "wall": cpu, "peak": 100.0}

    seen: list[str] = []

    def results():
        yield "ours", result(2.0, 0.25)
        seen.append(capsys.readouterr().out)
        yield "broken", benchmark.Failure("needs the module x")
        seen.append(capsys.readouterr().out)
        yield "peer", result(6.0, 0.35)

    assert benchmark._table("tofu", results(), 4)
    head, columns, row = seen[0].strip().splitlines()
    assert head == "tofu definition, 4 questions; 1 of our 2 answers ended" and "d truth ratio" in columns
    assert row.split() == ["ours", "0.500", "1.00", "100", "2/2", "0.0e+00"]
    assert seen[1].split() == ["broken", "failed:", "needs", "the", "module", "x"]
    assert capsys.readouterr().out.split() == ["peer", "1.500", "3.00", "100", "2/2", "1.0e-01"]
    assert not benchmark._table("tofu", [("ours", result(2.0, 0.25))], 4)
