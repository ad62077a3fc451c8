"""One main process at a results folder."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import IO

from pipeline_lib.errors import UserError

_held: list[IO[str]] = []  # open for as long as this process lives


def hold_lock(path: Path | str) -> None:
    """Lock `path` until this process ends, however it ends; a second process gets a `UserError`."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = open(path, "a+", encoding="utf-8")  # noqa: SIM115 - held on purpose
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        handle.seek(0)
        owner = handle.read().strip() or "unknown"
        handle.close()
        raise UserError(
            f"{path.parent} is in use by another snakemake (process {owner}): wait for it to end, "
            "or stop it first"
        ) from None
    handle.truncate(0)
    handle.write(f"{os.getpid()}\n")
    handle.flush()
    _held.append(handle)
