"""`python -m pipeline_lib`, as it is called by people and by `make check`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pipeline_lib import __main__ as command
from pipeline_lib.config.schema import schema_text
from tests.paths import REPO


def test_validate_counts_the_runs(capsys: pytest.CaptureFixture[str]) -> None:
    path = REPO / "config.yaml"
    assert command.main(["validate", str(path)]) == 0
    assert capsys.readouterr().out == f"{path}: OK, 30 unlearning runs and 6 models to compare with\n"


def test_validate_looks_at_every_file_and_fails_for_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad, missing = tmp_path / "bad.yaml", tmp_path / "missing.yaml"
    bad.write_text(
        "suite: x\npreset: tiny\nobjectives: {NPO: {bta: 1}}\noptimizers: {adamw: {learning_rate: 1}}\n"
    )
    assert command.main(["validate", str(bad), str(missing), str(REPO / "config.yaml")]) == 1
    seen = capsys.readouterr()
    assert seen.err == (
        f"{bad}: the suite has an error:\n"
        "  objectives.NPO.bta: unknown key 'bta'; did you mean 'beta'? Allowed: alpha, beta, kind\n"
        f"{missing}: cannot be read (No such file or directory)\n"
    )
    assert "config.yaml: OK" in seen.out


def test_schema_is_written_and_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "schemas" / "suite.schema.json"
    monkeypatch.setattr(command, "SCHEMA", target)
    assert command.main(["schema", "--check"]) == 1
    assert not target.exists()
    assert command.main(["schema"]) == 0
    assert target.read_text() == schema_text()
    assert command.main(["schema", "--check"]) == 0
    target.write_text("{}")
    capsys.readouterr()
    assert command.main(["schema", "--check"]) == 1
    assert "out of step" in capsys.readouterr().err
    assert target.read_text() == "{}", "--check writes nothing"


def test_the_command_does_not_import_torch_and_shows_no_traceback(tmp_path: Path) -> None:
    bad = tmp_path / "bad.yaml"
    bad.write_text("suite: [")
    code = (
        "import sys; from pipeline_lib.__main__ import main\n"
        f"status = main(['validate', 'config.yaml', {str(bad)!r}]) + main(['schema', '--check'])\n"
        "assert not {'torch', 'transformers'} & set(sys.modules)\n"
        "sys.exit(status)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=REPO, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert done.stderr.startswith(f"{bad}: not valid YAML: line 1, column 9: ")


@pytest.mark.parametrize("arguments", [[], ["validate"], ["scheme"]])
def test_a_wrong_call_prints_the_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        command.main(arguments)
    assert caught.value.code == 2
    assert "usage: python -m pipeline_lib" in capsys.readouterr().err
