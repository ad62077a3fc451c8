"""The whole workflow: killed main processes, two at one folder, and jobs that outlive theirs."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from pipeline_lib.core.files import sha256
from tests.failures.outcome import CONTINUED, Outcome, short
from tests.workflow.study import SUITE, Study

MODEL = "models/authors/tiny/GradDiff/sophia/seed0"
TARGET = f"results/small/{MODEL}"
CHECKPOINT = "checkpoints/authors/tiny/original/none/seed0/state.json"


def prepare(folder: Path) -> Study:
    """A study whose target was made without disturbance."""
    study = Study(folder / "undisturbed-workflow", SUITE)
    done = study.snakemake(TARGET)
    assert done.returncode == 0, done.stdout[-4000:]
    return study


def killed_at_random_moments(undisturbed: Study, kills: int, seed: int) -> Outcome:
    """Kill snakemake with all its jobs at random moments; give the same command again each time."""
    source = random.Random(seed)
    study = _fresh(undisturbed, "killed-workflow")
    hits = finished = 0
    length = 20.0
    while hits < kills:
        started = time.monotonic()
        main = _start(study)
        try:
            main.wait(timeout=source.uniform(0.0, length))
        except subprocess.TimeoutExpired:
            os.killpg(main.pid, signal.SIGKILL)
            main.wait()
            hits += 1
            continue
        assert main.returncode == 0, _said(study)
        _check_same(study, undisturbed)
        finished, length = finished + 1, time.monotonic() - started
        study = _fresh(undisturbed, "killed-workflow")
    done = study.snakemake(TARGET)
    assert done.returncode == 0, done.stdout[-4000:]
    _check_same(study, undisturbed)
    return Outcome("snakemake and its jobs", f"{hits} kills, {finished + 1} runs", CONTINUED)


def two_at_one_folder(undisturbed: Study) -> Outcome:
    """A second main process while the first one works; then the first one ends well."""
    study = _fresh(undisturbed, "two-workflows")
    first = _start(study)
    try:
        _wait_until((study.results / CHECKPOINT).is_file, first)
        os.killpg(first.pid, signal.SIGSTOP)  # or it may end before the second one comes
        second = study.snakemake(TARGET)
        assert second.returncode != 0 and "in use by another snakemake" in second.stdout, second.stdout
        assert "Traceback" not in second.stdout, second.stdout
        os.killpg(first.pid, signal.SIGCONT)
        assert first.wait() == 0, _said(study)
    finally:
        _stop(first)
    _check_same(study, undisturbed)
    (line,) = {line for line in second.stdout.splitlines() if "in use by" in line}
    return Outcome(
        "two snakemakes", "a second one while the first works", f"“{short(line)}”; the first ends well"
    )


def jobs_that_outlive_their_main(undisturbed: Study) -> Outcome:
    """Kill snakemake alone, so that its job goes on; the next call must not start the job twice."""
    study = _fresh(undisturbed, "orphans")
    main = _start(study)
    log = study.results / "logs/finetune/authors/tiny/original/none/seed0.log"
    running = log.with_name(f".{log.name}.running")
    try:
        _wait_until((study.results / CHECKPOINT).is_file, main)
        orphan = int(running.read_text())
        os.kill(orphan, signal.SIGSTOP)  # or it may end before the next call meets it
        os.kill(main.pid, signal.SIGKILL)
        main.wait()
        second = study.snakemake(TARGET)
        assert second.returncode != 0 and f"still runs as process {orphan}" in second.stdout, second.stdout
    finally:
        _stop(main)
    third = study.snakemake(TARGET)
    assert third.returncode == 0, third.stdout[-4000:]
    _check_same(study, undisturbed)
    (line, *_) = [line for line in second.stdout.splitlines() if "still runs as" in line]
    became = f"“{short(line)}”; the job stopped, {CONTINUED}"
    return Outcome("snakemake alone", "1 kill; its job goes on", became)


def _fresh(undisturbed: Study, name: str) -> Study:
    """The project without its results."""
    folder = undisturbed.folder.with_name(name)
    shutil.rmtree(folder, ignore_errors=True)
    study = undisturbed.copy(folder)
    shutil.rmtree(study.results)
    shutil.rmtree(study.folder / ".snakemake", ignore_errors=True)
    return study


def _start(study: Study) -> subprocess.Popen[bytes]:
    """Snakemake in a session of its own; what it says goes to a file."""
    with open(study.folder / "said.txt", "wb") as said:
        return subprocess.Popen(
            study.command(TARGET),
            cwd=study.folder,
            env=study.environment(),
            stdout=said,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def _said(study: Study) -> str:
    return (study.folder / "said.txt").read_text(errors="replace")[-4000:]


def _stop(main: subprocess.Popen[bytes]) -> None:
    """End it and what is left of its session."""
    with suppress(ProcessLookupError):
        os.killpg(main.pid, signal.SIGKILL)
    main.wait()


def _wait_until(ready: Callable[[], bool], main: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 300
    while not ready():
        assert main.poll() is None and time.monotonic() < deadline, "it ended before it could be disturbed"
        time.sleep(0.002)


def _check_same(study: Study, undisturbed: Study) -> None:
    for folder in ("models/authors/tiny/original/none/seed0", MODEL):
        ours, theirs = study.results / folder, undisturbed.results / folder
        assert sha256(ours / "model.safetensors") == sha256(theirs / "model.safetensors"), folder
    left = list(study.results.rglob("*.partial"))
    assert not left, f"left behind: {left}"
