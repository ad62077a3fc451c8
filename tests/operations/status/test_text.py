"""What the command and the end of a run say, on a study of made-up files."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline_lib import __main__ as command
from pipeline_lib.operations.status.ending import ending_text
from pipeline_lib.operations.status.report import report_of
from pipeline_lib.operations.status.text import as_values, status_text
from pipeline_lib.study import dump_suite
from tests.operations.status.study import DEAD, ELSEWHERE, Files, small_suite
from tests.paths import REPO

ROW = "authors/tiny/GradDiff"
FULL = "Traceback (most recent call last):\n  File 'x'\nOSError: [Errno 28] No space left on device\n"


@pytest.fixture
def files(tmp_path: Path) -> Files:
    """Two seeds of everything: one run fails with both, one diverged, one runs, one was stopped."""
    found = Files(tmp_path / "results/small", small_suite(seeds=[0, 1]))
    for seed in (0, 1):
        for anchor in ("original", "retrained"):
            for rule in ("finetune", "evaluate", "standard_benchmarks", "score"):
                found.done(f"{rule} authors/tiny/{anchor}/none/seed{seed}")
        found.log(f"unlearn {ROW}/sophia/seed{seed}", "step 1 of 9\n" + FULL, age=1)
    found.done(f"unlearn {ROW}/wild/seed0", status="diverged")
    found.log(f"unlearn {ROW}/adamw/seed0", "step 3 of 9, loss=2.5; 2 s so far, about 40 s left\n", left=40)
    found.log(f"unlearn {ROW}/adamw/seed1", "step 2 of 9; 2 s so far, about 50 s left\n", age=4000, left=50)
    return found


def test_the_status_names_what_needs_attention(files: Files) -> None:
    text = status_text(report_of(files.suite, files.out))
    assert text.startswith("small: 17 of ")
    assert "(1 of them diverged), 1 running, 2 failed, 1 stopped, " in text
    assert "No main process is at work: start snakemake to go on." in text
    assert f"unlearn {ROW}/adamw/seed0: step 3 of 9, loss=2.5; 2 s so far, about 40 s left" in text
    assert f"unlearn {ROW}/sophia/seed0, and in the same way unlearn {ROW}/sophia/seed1" in text
    assert "      OSError: [Errno 28] No space left on device" in text
    assert text.count("No space left") == 1, "the same error once"
    assert str(files.out / f"logs/unlearn/{ROW}/sophia/seed0.log") in text
    assert f"  unlearn {ROW}/wild/seed0" in text
    stopped = text[text.index("Stopped without an error") :]
    assert f"unlearn {ROW}/adamw/seed1: step 2 of 9" in stopped
    rules = {line.split()[0]: line.split()[1:] for line in text.splitlines() if line.startswith("unlearn ")}
    assert rules["unlearn"][:6] == ["10", "1", "1", "2", "1", "5"]


def test_rows_that_go_well_are_counted_and_all_can_be_asked_for(files: Files) -> None:
    report = report_of(files.suite, files.out)
    short, long = status_text(report), status_text(report, everything=True)
    assert "2 with all seeds done" in short
    assert "2 with all seeds waiting (--all)" in short
    assert not [line for line in short.splitlines() if line.split()[:3] == ["authors", "tiny", "KL"]]
    rows = [line.split() for line in long.splitlines() if line.startswith("authors")]
    assert ["authors", "tiny", "KL", "adamw", "2", "2"] in rows
    assert ["authors", "tiny", "original", "none", "2", "2"] in rows
    assert len(rows) == 7


def test_a_finished_study_points_to_its_report(files: Files) -> None:
    for title in files.jobs:
        files.done(title)
    text = status_text(report_of(files.suite, files.out))
    assert text.startswith(f"small: {len(files.jobs)} of {len(files.jobs)} jobs are done.\n")
    assert text.endswith(f"Nothing is left to do. The report: {files.out / 'report/index.html'}")


def test_all_of_it_as_json(files: Files, capsys: pytest.CaptureFixture[str]) -> None:
    (files.out / "suite.yaml").write_text(dump_suite(files.suite))
    assert command.main(["status", "--json", str(files.out)]) == 0
    values = json.loads(capsys.readouterr().out)
    assert values["jobs"]["failed"] == 2
    assert values["rules"]["unlearn"]["diverged"] == 1
    assert values["diverged"] == [f"unlearn {ROW}/wild/seed0"]
    states = {found["job"]: found for found in values["unfinished"]}
    assert len(states) == 4
    assert states[f"unlearn {ROW}/adamw/seed0"]["seconds_left"] == 40
    assert states[f"unlearn {ROW}/adamw/seed1"]["seconds_left"] is None, "it was killed, and left its claim"
    assert states[f"unlearn {ROW}/sophia/seed1"]["error"][-1].startswith("OSError")
    sophia = next(
        row for row in values["rows"] if row["optimizer"] == "sophia" and row["method"] == "GradDiff"
    )
    assert sophia["seeds"] == {"0": "failed", "1": "failed"}
    assert values["main_process"] is None
    assert values["seconds_left"] is None
    assert as_values(report_of(files.suite, files.out))["jobs"] == values["jobs"]


def test_an_empty_study_and_what_is_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["status", str(tmp_path)]) == 1
    assert "no suite.yaml; give a suite file, such as config.yaml" in capsys.readouterr().err
    suite = small_suite()
    text = status_text(report_of(suite, tmp_path / "results/small"))
    assert text.startswith(f"small: 0 of {len(Files(tmp_path, suite).jobs)} jobs are done, ")


def test_a_folder_of_the_former_layout_is_not_called_done(
    files: Files, capsys: pytest.CaptureFixture[str]
) -> None:
    (files.out / "suite.yaml").write_text(dump_suite(files.suite))
    for run in files.out.glob("training/*/*/*/*/seed*/run.json"):
        run.write_text('{"status": "ok"}')
    assert command.main(["status", str(files.out)]) == 1
    assert "was made by a former version of this project" in capsys.readouterr().err


def test_the_command_reads_a_suite_file_without_torch_and_writes_nothing(tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_text(dump_suite(small_suite()))
    code = (
        "import sys; from pipeline_lib.__main__ import main; status = main(['status', 'study.yaml']); "
        "assert 'torch' not in sys.modules; assert 'pandas' not in sys.modules; sys.exit(status)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={"PYTHONPATH": str(REPO), "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("small: 0 of ")
    assert [path.name for path in tmp_path.iterdir()] == ["study.yaml"]


def test_the_end_of_a_run_tells_what_failed_in_it(files: Files) -> None:
    files.log(f"unlearn {ROW}/adamw/seed0", "step 3 of 9\n", ELSEWHERE.replace("1\n", f"{DEAD}\n"), age=200)
    text = ending_text(files.suite, files.out, since=time.time() - 600)
    lines = text.splitlines()
    assert lines[0] == f"small: 17 of {len(files.jobs)} jobs of the whole study are done."
    assert lines[1] == f"1 diverged: unlearn {ROW}/wild/seed0."
    assert lines[2] == "Failed: 2 job(s)"
    assert lines[3] == f"  unlearn {ROW}/sophia/seed0, and in the same way unlearn {ROW}/sophia/seed1"
    assert "      OSError: [Errno 28] No space left on device" in lines
    assert f"  unlearn {ROW}/adamw/seed0: {files.out}/logs/unlearn/{ROW}/adamw/seed0.log" in lines
    assert not [line for line in lines if "adamw/seed1" in line], "older than this run"
    assert "unlearning status" in lines[-1]


def test_a_run_that_ends_well_says_so_in_few_words(files: Files) -> None:
    for title in files.jobs:
        files.done(title)
    count = len(files.jobs)
    assert (
        ending_text(files.suite, files.out) == f"small: {count} of {count} jobs of the whole study are done."
    )


def test_many_failures_are_cut_short(files: Files) -> None:
    for number, title in enumerate(title for title in files.jobs if title.startswith("score ")):
        (files.out / files.jobs[title].result).unlink(missing_ok=True)
        files.log(title, f"error: fault {number}\n")
    text = ending_text(files.suite, files.out)
    assert text.count("error: fault") == 9
    assert "  and 5 other ways" in text
