"""An evaluation killed with signal 9 continues after its last whole split, to the same bytes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

from pipeline_lib.engine import evaluate as engine
from tests.paths import REPO
from tests.steps.study import run_evaluate

# The evaluation itself, with a pause after each split so that the signal meets it half-way on any machine.
CHILD = """
import sys, time
from pathlib import Path
from pipeline_lib.engine import evaluate as engine
from tests.steps.study import run_evaluate
write = engine.write_jsonl
engine.write_jsonl = lambda *arguments: (write(*arguments), time.sleep(1.0))
root, data, model = map(Path, sys.argv[1:4])
run_evaluate(root, data, model, model, 0.05)
"""


def test_kill_9_and_again_gives_the_records_of_an_undisturbed_run(original, data, tmp_path, monkeypatch):
    whole = tmp_path / "whole" / "records.jsonl"
    run_evaluate(whole.parent, data, original, original, 0.05)
    root = tmp_path / "killed"
    arguments = [str(path) for path in (root, data, original)]
    with subprocess.Popen(
        [sys.executable, "-c", CHILD, *arguments], cwd=REPO, stderr=subprocess.DEVNULL
    ) as child:
        while not list((root / "work").glob("*.jsonl")):
            assert child.poll() is None, "the evaluation ended before it could be killed"
            time.sleep(0.01)
        os.kill(child.pid, signal.SIGKILL)
        assert child.wait() == -signal.SIGKILL
    finished = len(list((root / "work").glob("*.jsonl")))
    assert 1 <= finished < 4 and not (root / "records.jsonl").exists()

    evaluated = []
    once = engine.SplitRun.rows
    monkeypatch.setattr(engine.SplitRun, "rows", lambda run, *a: evaluated.append(run.split) or once(run, *a))
    run_evaluate(root, data, original, original, 0.05)
    again = root / "records.jsonl"
    assert len(evaluated) == 4 - finished
    assert again.read_bytes() == whole.read_bytes()
    assert (root / "equal_retain.json").read_bytes() == whole.with_name("equal_retain.json").read_bytes()
    assert not (root / "work").exists()
