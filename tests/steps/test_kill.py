"""A run killed with signal 9 continues from its checkpoint and ends with the same bytes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from pipeline_lib.core.files import read_json, read_jsonl
from pipeline_lib.training import checkpoint
from tests.paths import REPO
from tests.steps.study import run_unlearn
from tests.training.runs import timeless

METHOD, OPTIMIZER, STEPS, KILL_AFTER = "NPO", "sophia", 12, 5

# The run itself, with a pause after each checkpoint so that the signal meets it half-way on any machine.
CHILD = """
import sys, time
from pathlib import Path
from pipeline_lib.training import checkpoint
from tests.steps.study import run_unlearn
save = checkpoint.save
checkpoint.save = lambda *arguments: (save(*arguments), time.sleep(0.3))
root, data, parent, method, optimizer = sys.argv[1:6]
run_unlearn(Path(root), Path(data), Path(parent), method, optimizer, epochs=int(sys.argv[6]))
"""


def saved_step(root) -> int:
    """Step of the checkpoint that is there now; 0 where there is none, also while one replaces another."""
    try:
        return json.loads((root / "checkpoint" / "state.json").read_text())["step"]
    except OSError:
        return 0


def test_kill_9_and_again_gives_the_bytes_of_an_undisturbed_run(original, data, tmp_path, capfd):
    whole = run_unlearn(tmp_path / "whole", data, original, METHOD, OPTIMIZER, epochs=STEPS)

    root = tmp_path / "killed"
    arguments = [str(path) for path in (root, data, original)] + [METHOD, OPTIMIZER, str(STEPS)]
    with subprocess.Popen(
        [sys.executable, "-c", CHILD, *arguments], cwd=REPO, stderr=subprocess.DEVNULL
    ) as child:
        while saved_step(root) < KILL_AFTER:
            assert child.poll() is None, "the run ended before it could be killed"
            time.sleep(0.01)
        os.kill(child.pid, signal.SIGKILL)
        assert child.wait() == -signal.SIGKILL
    assert not (root / "model").exists() and not (root / "training").exists()
    assert KILL_AFTER <= saved_step(root) < STEPS

    capfd.readouterr()
    again = run_unlearn(root, data, original, METHOD, OPTIMIZER, epochs=STEPS)
    assert "starting over" not in capfd.readouterr().err
    assert (again / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    one, other = read_json(again / "run.json"), read_json(whole / "run.json")
    timed = {"train_time_s", "wall_time_s", "peak_memory_mb", "made_at"}
    assert {k: v for k, v in one.items() if k not in timed} == {
        k: v for k, v in other.items() if k not in timed
    }
    logs = [read_jsonl(r / "training" / "steps.jsonl") for r in (root, tmp_path / "whole")]
    assert timeless(logs[0]) == timeless(logs[1])
    assert not (root / "checkpoint").exists()


# Checkpoints are written by the signal alone here; every step leaves a mark, so that it comes half-way.
ASKED = """
import sys, time
from pathlib import Path
from pipeline_lib.core import stopping
from pipeline_lib.training import batches, updates
from tests.steps.study import run_unlearn
root, data, parent, method, optimizer = sys.argv[1:6]
root = Path(root)
root.mkdir()
of, name = {"apply": (updates.Step, "apply"), "batches": (batches.MiniBatches, "batches")}[sys.argv[7]]
part = getattr(of, name)
marks = []
def slow(*arguments):
    marks.append(None)
    (root / "marks").write_text(str(len(marks)))
    time.sleep(0.3)
    return part(*arguments)
setattr(of, name, slow)
stopping.listen()
try:
    epochs = int(sys.argv[6])
    run_unlearn(root, Path(data), Path(parent), method, optimizer, epochs=epochs, checkpoint_seconds=1e9)
except stopping.Stopped as told:
    print(told)
    sys.exit(stopping.STATUS)
"""


@pytest.mark.parametrize(
    ("method", "optimizer", "slow"),
    [("NPO", "sophia", "apply"), ("GradDiff", "adamw", "batches")],
)
def test_asked_to_end_it_saves_its_last_step_and_goes_on_to_the_same_bytes(
    original, data, tmp_path, capfd, method, optimizer, slow
):
    whole = run_unlearn(tmp_path / "whole", data, original, method, optimizer, epochs=STEPS)
    root = tmp_path / "asked"
    arguments = [str(path) for path in (root, data, original)] + [method, optimizer, str(STEPS), slow]
    with subprocess.Popen(
        [sys.executable, "-c", ASKED, *arguments],
        cwd=REPO,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as child:
        while not (root / "marks").is_file() or int((root / "marks").read_text() or 0) < KILL_AFTER:
            assert child.poll() is None, "the run ended before it could be asked"
            time.sleep(0.01)
        os.kill(child.pid, signal.SIGTERM)
        told = child.communicate(timeout=30)[0]
    assert child.returncode == 128 + signal.SIGTERM
    step = saved_step(root)
    assert KILL_AFTER - 1 <= step <= int((root / "marks").read_text()), "the step of the signal, none earlier"
    assert told.startswith(f"asked to end by a signal (SIGTERM); a checkpoint of step {step} of ")
    assert not (root / "model").exists()

    capfd.readouterr()
    again = run_unlearn(root, data, original, method, optimizer, epochs=STEPS, checkpoint_seconds=1e9)
    assert "starting over" not in capfd.readouterr().err
    assert (again / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    assert len(read_jsonl(root / "training" / "steps.jsonl")) == len(
        read_jsonl(tmp_path / "whole" / "training" / "steps.jsonl")
    )


class Stopped(Exception):
    pass


@pytest.fixture
def interrupted(original, data, tmp_path, monkeypatch):
    """Folder of a run that was stopped right after its first checkpoint."""

    def save_and_stop(*arguments):
        save(*arguments)
        raise Stopped

    save = checkpoint.save
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save", save_and_stop)
        with pytest.raises(Stopped):
            run_unlearn(tmp_path / "a", data, original, "GradDiff", "signum")
    assert saved_step(tmp_path / "a") == 1 and not (tmp_path / "a" / "model").exists()
    return tmp_path / "a"


@pytest.mark.parametrize("change", [{"rate": 2e-3}, {"epochs": 4}, {"batch_size": 2}])
def test_a_checkpoint_of_other_settings_is_left_alone(change, interrupted, original, data, tmp_path, capfd):
    changed = run_unlearn(interrupted, data, original, "GradDiff", "signum", **change)
    assert "checkpoint of other settings" in capfd.readouterr().err
    fresh = run_unlearn(tmp_path / "b", data, original, "GradDiff", "signum", **change)
    assert (changed / "model.safetensors").read_bytes() == (fresh / "model.safetensors").read_bytes()


def test_a_checkpoint_of_other_code_is_left_alone(interrupted, original, data, capfd):
    run_unlearn(interrupted, data, original, "GradDiff", "signum", code="edited")
    assert "checkpoint of other settings" in capfd.readouterr().err


def test_a_checkpoint_that_fits_is_continued(interrupted, original, data, tmp_path, capfd):
    continued = run_unlearn(interrupted, data, original, "GradDiff", "signum")
    assert "starting over" not in capfd.readouterr().err
    fresh = run_unlearn(tmp_path / "b", data, original, "GradDiff", "signum")
    assert (continued / "model.safetensors").read_bytes() == (fresh / "model.safetensors").read_bytes()
