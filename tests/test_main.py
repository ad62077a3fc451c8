"""The command `unlearning`, as it is called by people and by `make check`."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from pipeline_lib import __main__ as command
from pipeline_lib.commands import suite
from pipeline_lib.study.schema import schema_text
from tests.paths import REPO
from tests.peers.made_up import MANIFEST, records, save, tofu_log


def test_the_console_command_and_its_alias_are_the_same() -> None:
    scripts = tomllib.loads((REPO / "pyproject.toml").read_text())["project"]["scripts"]
    assert EntryPoint("unlearning", scripts["unlearning"], "console_scripts").load() is command.main
    alias = [sys.executable, "-m", "pipeline_lib", "--help"]
    done = subprocess.run(alias, cwd=REPO, capture_output=True, text=True, check=False)
    assert done.stdout.startswith("usage: unlearning [-h] COMMAND"), done.stderr


def test_a_command_that_is_interrupted_says_so_without_a_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(path: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("pipeline_lib.study.load_suite", interrupted)
    assert command.main(["plan", "config.yaml"]) == 130
    assert capsys.readouterr().err == "stopped; what is finished is kept, and the same command goes on\n"


def test_validate_counts_the_runs(capsys: pytest.CaptureFixture[str]) -> None:
    path = REPO / "config.yaml"
    assert command.main(["validate", str(path)]) == 0
    counts = "30 unlearning runs, 88 models of stages and 24 models to compare with"
    assert capsys.readouterr().out == f"{path}: OK, {counts}\n"


def test_validate_says_which_test_declared_comparisons_have(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    suite = (REPO / "config.yaml").read_text(encoding="utf-8")
    path = tmp_path / "declared.yaml"
    path.write_text(f"{suite}\ncomparisons: [{{first: sophia, second: adamw, question: Which one}}]\n")
    assert command.main(["validate", str(path)]) == 0
    _, *lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == [
        "  authors of tiny",
        "  book of tiny, manners of tiny",
    ]
    assert "times 2 at Holm's first step: so they can claim nothing below 7 seeds." in lines[0]


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
        "  objectives.NPO.bta: unknown key 'bta'; did you mean 'beta'? Allowed: alpha, beta, "
        "forget_weight, kind, retain_loss_type\n"
        f"{missing}: cannot be read (No such file or directory); give the path of a suite file, such as "
        "config.yaml\n"
    )
    assert "config.yaml: OK" in seen.out


def test_schema_is_written_and_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "schemas" / "suite.schema.json"
    monkeypatch.setattr(suite, "SCHEMA", target)
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
    log = save(tmp_path / "log.json", tofu_log())
    code = (
        "import sys; from pipeline_lib.__main__ import main\n"
        f"status = main(['validate', 'config.yaml', {str(bad)!r}]) + main(['schema', '--check'])\n"
        f"status += main(['tofu-log', '--unlearned', {str(log)!r}, '--retrained', {str(log)!r}])\n"
        "assert not {'torch', 'transformers'} & set(sys.modules)\n"
        "sys.exit(status)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=REPO, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert done.stderr.startswith(f"{bad}: not valid YAML: line 1, column 9: ")


def test_a_reader_that_has_read_enough_gets_no_traceback(tmp_path: Path) -> None:
    log = save(tmp_path / "log.json", tofu_log())
    command = [
        sys.executable,
        "-m",
        "pipeline_lib",
        "tofu-log",
        "--unlearned",
        str(log),
        "--retrained",
        str(log),
    ]
    with subprocess.Popen(
        command, cwd=REPO, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None and child.stderr is not None
        child.stdout.close()
        assert child.stderr.read() == ""
        assert child.wait() == 0


def test_tofu_log_prints_one_object_and_warns_on_stderr(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    logs = [save(tmp_path / f"{n}.json", tofu_log(n, first)) for n, first in ((20, 0), (10, 12))]
    arguments = ["tofu-log", "--unlearned", str(logs[0]), "--retrained", str(logs[1])]
    assert command.main([*arguments, "--equal-n", "5", "--variant", "arithmetic"]) == 0
    seen = capsys.readouterr()
    result = json.loads(seen.out)
    assert list(result)[:3] == ["forget_quality", "forget_quality_log10", "ks_statistic"]
    assert result["n"] == {"unlearned": 20, "retrained": 10}
    assert (result["variant"], result["matched"], result["equal_n"]["n"]) == ("arithmetic", False, 5)
    assert [len(result[name]) for name in ("unlearned", "retrained")] == [10, 10]
    assert seen.err.startswith("warning: the logs hold different forget questions: 20 in the first")
    assert command.main([*arguments, "--matched"]) == 0
    assert json.loads(capsys.readouterr().out)["n"] == {"unlearned": 8, "retrained": 8}
    same = ["tofu-log", "--unlearned", str(logs[0]), "--retrained", str(logs[0])]
    assert command.main(same) == 0
    assert capsys.readouterr().err == ""


def test_a_log_that_is_none_fails_with_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad = save(tmp_path / "bad.json", {"forget_quality": 1.0})
    good = save(tmp_path / "good.json", tofu_log())
    assert command.main(["tofu-log", "--unlearned", str(good), "--retrained", str(bad)]) == 1
    seen = capsys.readouterr()
    assert seen.out == ""
    assert seen.err.startswith(f"{bad}: expected a log of TOFU's evaluation") and seen.err.count("\n") == 1


def test_export_and_read_open_unlearning(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = save(tmp_path / "records.jsonl", "".join(json.dumps(row) + "\n" for row in records()))
    manifest = save(tmp_path / "manifest.json", MANIFEST)
    out = tmp_path / "exported"
    arguments = ["export-open-unlearning", str(rows), "--manifest", str(manifest), "--out", str(out)]
    assert command.main([*arguments, "--retrained", str(rows)]) == 0
    seen = capsys.readouterr()
    files = [str(out / "TOFU_EVAL.json"), str(out / "TOFU_SUMMARY.json")]
    assert seen.out.splitlines() == files
    assert seen.err.startswith("warning: mia_min_k_plus_plus: the records have no means")
    assert command.main(["open-unlearning-log", *files, "--retrained", files[0]]) == 0
    read = json.loads(capsys.readouterr().out)
    assert [read[file]["kind"] for file in files] == ["eval", "summary"]
    quality = read[files[0]]["metrics"]["forget_quality"]
    assert (quality["theirs"], quality["ours"], quality["ks_statistic"]) == (1.0, 1.0, 0.0)
    assert read[files[1]]["metrics"]["forget_quality"]["theirs"] == 1.0


@pytest.mark.parametrize("arguments", [[], ["validate"], ["scheme"], ["tofu-log", "--unlearned", "a"]])
def test_a_wrong_call_prints_the_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        command.main(arguments)
    assert caught.value.code == 2
    assert "usage: unlearning" in capsys.readouterr().err
