"""What the processes of tests/distributed/test_launch.py do."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import torch.distributed as dist

from pipeline_lib.core.errors import UserError
from pipeline_lib.distributed.group import current


def tell(folder: Path, words: list[str], device: str) -> None:
    """Leave who this is and what was given, and add up the ranks."""
    assert isinstance(folder, Path) and words == ["a b", "$(c)"]
    group = current()
    total = group.sums({"rank": float(group.rank)})["rank"]
    flag = group.of_first(group.rank == 0)
    group.check_same(7, "seven")
    (folder / f"{group.rank}.txt").write_text(f"{group.size} {total:g} {flag} {os.environ['PATH'] != ''}")
    print(f"rank {group.rank} was here", file=sys.stderr)


def die(folder: Path, how: str, device: str) -> None:
    """Rank 1 ends in this way while rank 0 waits for it."""
    rank = dist.get_rank()
    (folder / f"pid{rank}").write_text(str(os.getpid()))
    if rank == 1:
        if how == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if how == "user":
            raise UserError("the plum is not ripe; expected a ripe one")
        if how == "defect":
            raise KeyError("missing-piece")
        if how == "silent":
            os._exit(3)
    dist.barrier()


def disagree(device: str) -> None:
    current().check_same(current().rank, "the number")


def linger(folder: Path, device: str) -> None:
    """Say that it is there and wait to be ended."""
    (folder / f"pid{dist.get_rank()}").write_text(str(os.getpid()))
    time.sleep(600)
