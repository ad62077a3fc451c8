"""Disks that fill up, folders that cannot be written, files that may not grow."""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path

from pipeline_lib.training import checkpoint
from tests.failures import children, mounts
from tests.failures.outcome import CONTINUED, Outcome, short
from tests.failures.study import Study, check_same, check_whole

PLENTY = 64 * 1024  # KiB


class Impossible(Exception):
    """The fault cannot be made on this machine; the text says why."""


def full_disk(study: Study, step: str, sizes: int) -> Outcome:
    """Run the step on a disk too small for it, once for each of `sizes` sizes; then on a larger one."""
    needs = 3 * sum(path.stat().st_size for path in study.undisturbed(step).rglob("*")) // 1024 + 8

    def filled(root: Path, kib: int) -> None:
        mounts.mount(root, kib)
        first = study.run(step, root)
        check_whole(root, study.undisturbed(step))
        if not first.well:
            assert first.status == 1, first.said
            print(first.message)
        mounts.resize(root, PLENTY)
        _finish(study, step, root)

    messages = set()
    for number in range(sizes):
        kib = 4 + number * needs // sizes  # never 0, which means "as much as there is"
        messages |= _apart(study, partial(filled, study.fresh(f"full {step}"), kib))
    assert any("the disk is full" in text for text in messages), messages
    return Outcome(step, f"{sizes} sizes of disk", _told(messages))


def read_only(study: Study, step: str) -> Outcome:
    """Kill the step at its first checkpoint, turn the disk read-only, run; turn it back, run."""
    root = study.fresh(f"read only {step}")

    def turned() -> None:
        mounts.mount(root, PLENTY)
        run_to_a_checkpoint(study, step, root)
        mounts.set_read_only(root, True)
        first = study.run(step, root)
        assert first.status == 1, first.said
        print(first.message)
        mounts.set_read_only(root, False)
        _finish(study, step, root)

    messages = _apart(study, turned)
    assert any("read-only" in text for text in messages), messages
    return Outcome(step, "from its first checkpoint on", _told(messages))


def not_ours(study: Study, step: str) -> Outcome:
    """The folder belongs to somebody else."""
    root = study.fresh(f"not ours {step}")
    root.chmod(0o555)

    def as_nobody() -> None:
        if os.getuid() == 0:
            os.setgid(65534)
            os.setuid(65534)
        study.step(step, root)()

    refused = children.run(as_nobody, root.with_suffix(".log"))
    root.chmod(0o755)
    assert refused.status == 1, refused.said
    assert "this user may not read or write it" in refused.said, refused.said
    assert not list(root.iterdir())
    _finish(study, step, root)
    return Outcome(step, "another user's folder", _told({refused.message}))


def limited_files(study: Study, step: str, limits: int) -> Outcome:
    """Files may not grow beyond a limit (ulimit -f), which cuts them in the middle of being written."""
    largest = max(path.stat().st_size for path in study.undisturbed(step).rglob("*"))

    def limited(root: Path, limit: int) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        study.step(step, root)()

    messages = set()
    for number in range(limits):
        limit = largest * (2 * number + 1) // (2 * limits)
        root = study.fresh(f"limited {step}")
        first = children.run(partial(limited, root, limit), root.with_suffix(".log"))
        assert first.status == 1, first.said
        check_whole(root, study.undisturbed(step))
        messages.add(first.message)
        _finish(study, step, root)
    assert any("larger than allowed" in text for text in messages), messages
    return Outcome(step, f"{limits} limits", _told(messages))


def _finish(study: Study, step: str, root: Path) -> None:
    again = study.run(step, root)
    assert again.well, again.said
    check_same(root, study.undisturbed(step))


def _told(messages: set[str]) -> str:
    return f"“{short(min(messages))}”; then {CONTINUED}"


def _apart(study: Study, function: Callable[[], object]) -> set[str]:
    """Run `function` with mounts of its own and return the lines it printed."""
    said = study.folder / "apart.log"

    def allowed() -> None:
        try:
            mounts.own_mounts()
        except OSError as error:
            print(error)
            os._exit(77)

    possible = children.run(allowed, said)
    if possible.status == 77:
        raise Impossible(f"this user may not mount file systems here ({possible.message})")

    def both() -> None:
        mounts.own_mounts()
        function()

    done = children.run(both, said)
    assert done.well, done.said
    return set(done.said.splitlines())


def run_to_a_checkpoint(study: Study, step: str, root: Path) -> None:
    """Kill the step right after its first checkpoint."""
    save = checkpoint.save

    def save_and_die(*arguments: object) -> None:
        save(*arguments)  # type: ignore[arg-type]
        os.kill(os.getpid(), signal.SIGKILL)

    def dying() -> None:
        checkpoint.save = save_and_die  # type: ignore[assignment]
        study.step(step, root)()

    killed = children.run(dying, root.with_name(f"{root.name}.log"))
    assert killed.killed, killed.said
    assert (root / "checkpoint").is_dir()
