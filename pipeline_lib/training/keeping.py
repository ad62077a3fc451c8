"""When a run writes a checkpoint: every so often, and when it is asked to end."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NoReturn

from pipeline_lib.core.stopping import AGAIN, Stopped, asked
from pipeline_lib.distributed.group import Group


@dataclass
class Keeper:
    """`save` writes a checkpoint of what is taken, `every` so many seconds; `total`: steps of the run."""

    save: Callable[[], None]
    every: float
    total: int
    group: Group
    saved: float = field(default_factory=time.monotonic)

    def after(self, steps: int) -> None:
        """Called when a step is taken; raises `Stopped` where the run is asked to end before its last one."""
        if steps >= self.total:
            return
        self.stop(steps)
        if self.group.of_first(time.monotonic() - self.saved >= self.every):
            self.save()
            self.saved = time.monotonic()

    def stop(self, steps: int) -> None:
        """Where the run is asked to end, write what was taken of it, and end it."""
        if self.group.of_first(asked()):
            self._leave(steps)

    def _leave(self, steps: int) -> NoReturn:
        if steps:
            self.save()
        kept = (
            f"a checkpoint of step {steps} of {self.total} is written" if steps else "no step was taken yet"
        )
        raise Stopped(f"asked to end by a signal (SIGTERM); {kept}, and {AGAIN}")
