"""One main process at a results folder, one process at a job.

Locks are the system's own (flock): a lock ends with its process, however it ends, so no kill leaves one
behind.
"""

from __future__ import annotations

import fcntl
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from pipeline_lib.core.errors import UserError
from pipeline_lib.core.system_errors import storage_fault

_held: list[IO[str]] = []  # open for as long as this process lives


def hold_lock(path: Path | str) -> None:
    """Lock `path` until this process ends, however it ends; a second process gets a `UserError`."""
    path = Path(path)
    handle = _locked(path)
    if isinstance(handle, str):
        raise UserError(
            f"{path.parent} is in use by another snakemake (process {handle}), here or on a machine that "
            "shares the folder: wait for it to end, or stop it first"
        )
    _held.append(handle)


@contextmanager
def only_one(path: Path | str, what: str) -> Iterator[None]:
    """Lock `path` for the block and remove it afterwards; a second process gets a `UserError`.

    `what` names what runs, for the message: "this job". This protects a job that outlived its main process: a
    kill of snakemake alone leaves its jobs running, and the next call would start them a second time.
    """
    path = Path(path)
    handle = _locked(path)
    if isinstance(handle, str):
        raise UserError(
            f"{what} still runs as process {handle}, started by a snakemake that is gone. Wait for it to "
            "end or stop it (kill; on a cluster scancel), then give the same command again."
        )
    try:
        yield
    finally:
        path.unlink(missing_ok=True)  # before unlocking: nobody may hold a lock whose file is gone
        handle.close()


def _locked(path: Path) -> IO[str] | str:
    """The lock, open and with this process's number in it, or the number of the process that holds it."""
    while True:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            handle = open(path, "a+", encoding="utf-8")  # noqa: SIM115 - held on purpose
        except OSError as error:
            what, cure = storage_fault(error) or (error.strerror, f"Check the folder {path.parent}")
            raise UserError(
                f"{path} cannot be written: {what}. {cure}, then give the same command again."
            ) from error
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            handle.seek(0)
            owner = handle.read().strip() or "unknown"
            handle.close()
            return owner
        except OSError as error:  # some network file systems have no locks
            print(
                f"{path}: this file system has no locks ({error.strerror}); make sure yourself that one "
                "snakemake at a time uses the folder",
                file=sys.stderr,
            )
        if _is_at(handle, path):
            handle.truncate(0)
            handle.write(f"{os.getpid()}\n")
            handle.flush()
            return handle
        handle.close()  # its owner removed the file before we locked it


def _is_at(handle: IO[str], path: Path) -> bool:
    """Whether the open file is the one that has this name."""
    try:
        return os.path.samestat(os.fstat(handle.fileno()), os.stat(path))
    except FileNotFoundError:
        return False
