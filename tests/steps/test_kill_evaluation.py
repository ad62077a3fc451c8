"""An evaluation killed with signal 9 continues after its last whole split, to the same bytes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from pipeline_lib.evaluation import engine
from pipeline_lib.steps import evaluate
from tests.paths import REPO
from tests.steps.study import EVALUATION

# The evaluation itself, with a pause after each split so that the signal meets it half-way on any machine.
CHILD = """
import sys, time
from pathlib import Path
from pipeline_lib.evaluation import engine
from tests.steps.test_kill_evaluation import run_evaluate
write = engine.write_jsonl
engine.write_jsonl = lambda *arguments: (write(*arguments), time.sleep(1.0))
run_evaluate(*map(Path, sys.argv[1:4]))
"""


def run_evaluate(root: Path, data: Path, model: Path) -> Path:
    evaluate.run(
        evaluation=EVALUATION,
        embedder=None,
        equal_retain=0.05,
        max_length=160,
        device="cpu",
        threads=1,
        data_dir=data,
        model_dir=model,
        original_dir=model,
        records_path=root / "records.jsonl",
        equal_retain_path=root / "equal_retain.json",
        work_dir=root / "work",
    )
    return root / "records.jsonl"


def test_kill_9_and_again_gives_the_records_of_an_undisturbed_run(original, data, tmp_path, monkeypatch):
    whole = run_evaluate(tmp_path / "whole", data, original)
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
    again = run_evaluate(root, data, original)
    assert len(evaluated) == 4 - finished
    assert again.read_bytes() == whole.read_bytes()
    assert (root / "equal_retain.json").read_bytes() == whole.with_name("equal_retain.json").read_bytes()
    assert not (root / "work").exists()
