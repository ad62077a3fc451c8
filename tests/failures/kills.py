"""SIGKILL: at random moments, and before every single change of a file."""

from __future__ import annotations

import os
import random
import shutil
import signal
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from pipeline_lib.core.files import atomic_path
from pipeline_lib.training import checkpoint
from tests.failures import children
from tests.failures.outcome import CONTINUED, Outcome
from tests.failures.study import Study, check_same, check_whole, seconds_of


def at_random_moments(study: Study, step: str, kills: int, seed: int) -> Outcome:
    """Kill the step again and again at moments drawn evenly over its length, until `kills` have hit.

    After each kill everything under a final name must be whole. The killed run is started again, is killed
    again, and when it ends its results must be those of the undisturbed run; then a new one begins.
    """
    source = random.Random(f"{step} {seed}")
    length = seconds_of(study, step)
    reference, root = study.undisturbed(step), study.fresh(f"kills {step}")
    hits = finished = resumed = 0
    while hits < kills:
        ended = study.run(step, root, kill_after=source.uniform(0.0, length))
        assert ended.well or ended.killed, ended.said
        hits += ended.killed
        check_whole(root, reference)
        resumed += (root / "checkpoint").is_dir() or any((root / "work").glob("[!.]*"))
        if ended.well:
            check_same(root, reference)
            finished += 1
            root = study.fresh(f"kills {step}")
    ended = study.run(step, root)
    assert ended.well, ended.said
    check_same(root, reference)
    return Outcome(step, f"{hits} kills, {resumed} after a checkpoint, {finished + 1} runs", CONTINUED)


def before_every_change(study: Study, step: str, stride: int) -> Outcome:
    """Kill the step just before its 1st, 2nd, ... change of a file; start it again; compare.

    `stride`: try every so many-th change only.
    """
    reference = study.undisturbed(step)
    counted = study.fresh(f"counted {step}")
    changes = _count_changes(study.step(step, counted), counted)
    tried = 0
    for change in range(1, changes + 1, stride):
        root = study.fresh(f"change {step}")
        log = root.with_name(f"{root.name}.log")
        ended = children.run(partial(_stop_before, change, root, study.step(step, root)), log)
        assert ended.killed, f"change {change} of {changes}: {ended}"
        check_whole(root, reference)
        again = study.run(step, root)
        assert again.well, again.said
        assert "starting over" not in again.said, f"change {change}: {again.said}"
        check_same(root, reference)
        tried += 1
    return Outcome(step, f"before {tried} of its {changes} changes of files", CONTINUED)


def while_a_checkpoint_replaces_another(study: Study) -> Outcome:
    """Kill before every change of a file while a checkpoint is replaced: the old or the new one is there."""
    root = study.fresh("replaced checkpoint")
    kept, said = checkpoint.Kept(root / "checkpoint", "same"), root / "said.log"

    def save(step: int) -> None:
        model = torch.nn.Linear(8, 8)
        torch.nn.init.constant_(model.weight, step)
        checkpoint.save(kept, model, torch.optim.AdamW(model.parameters()), checkpoint.Progress(step))

    def load() -> None:
        model = torch.nn.Linear(8, 8)
        step = checkpoint.load(kept, model, torch.optim.AdamW(model.parameters())).step
        assert step in (1, 2) and bool((model.weight == step).all()), f"loaded step {step}"

    changes = _count_changes(lambda: (save(1), save(2)), root)
    first = _count_changes(lambda: save(1), study.fresh("replaced checkpoint"))
    for change in range(1, changes - first + 1):
        study.fresh("replaced checkpoint")
        done = children.run(lambda: save(1), said)
        assert done.well, done.said
        killed = children.run(partial(_stop_before, change, root, partial(save, 2)), said)
        assert killed.killed, killed.said
        loaded = children.run(load, said)
        assert loaded.well, f"change {change}: {loaded.said}"
    became = "the old checkpoint or the new one, whole"
    return Outcome("checkpoint", f"before each of {changes - first} changes of files", became)


def leftovers(study: Study) -> Outcome:
    """A kill in the middle of writing leaves a hidden partial file; the next writer removes it."""
    root = study.fresh("leftovers")

    def write(stop: bool) -> None:
        with atomic_path(root / "model") as temporary:
            temporary.mkdir()
            (temporary / "weights").write_bytes(bytes(1 << 16))
            if stop:
                os.kill(os.getpid(), signal.SIGKILL)

    assert children.run(lambda: write(True), root / "said.log").killed
    left = [path.name for path in root.iterdir() if path.suffix != ".log"]
    assert len(left) == 1 and left[0].endswith(".partial"), left
    assert children.run(lambda: write(False), root / "said.log").well
    assert [path.name for path in root.iterdir() if path.suffix != ".log"] == ["model"]
    return Outcome("any write", "1 kill while writing", "a hidden .partial file, removed by the next write")


_CHANGES = ("os.rename", "os.remove", "os.rmdir", "os.mkdir", "ctypes.dlsym", "open")


def _stop_before(change: int, root: Path, function: Callable[[], object]) -> None:
    """Run `function`, with SIGKILL just before its `change`-th change of a file below `root`."""
    seen = 0

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal seen
        if _changes_files(event, arguments, root):
            seen += 1
            if seen == change:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)
    function()


def _count_changes(function: Callable[[], object], root: Path) -> int:
    """How often `function` changes a file below `root`; counted in a child, by the bytes it leaves."""
    tally = root.with_name(f"{root.name}.tally")

    def counted() -> None:
        with open(tally, "ab", buffering=0) as handle:
            sys.addaudithook(
                lambda event, arguments: (
                    handle.write(b".") if _changes_files(event, arguments, root) else None
                )
            )
            function()
            os._exit(0)  # the hook cannot be taken out, and would meet a closed file

    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    tally.unlink(missing_ok=True)
    done = children.run(counted, tally.with_suffix(".log"))
    assert done.well, done.said
    return tally.stat().st_size


def _changes_files(event: str, arguments: tuple[Any, ...], root: Path) -> bool:
    """Whether Python's audit event is a change of a file, as far as Python sees it."""
    if event not in _CHANGES:
        return False
    if event == "ctypes.dlsym":
        return arguments[1] == "renameat2"
    if event == "open" and not (len(arguments) > 2 and arguments[2] & (os.O_WRONLY | os.O_RDWR)):
        return False
    return str(arguments[0]).startswith(str(root))
