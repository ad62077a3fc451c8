"""When a run writes a checkpoint: every so often, and when it is asked to end."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import torch

from pipeline_lib.distributed.group import Group
from pipeline_lib.stopping import AGAIN, Stopped, asked
from pipeline_lib.training import checkpoint


@dataclass
class Keeper:
    """`of`: folder, model and optimiser; `facts`: the log and the fingerprint; `adaptive`: see `checkpoint`.

    `every`: seconds between two checkpoints; `total`: steps of the run.
    """

    of: tuple[Path, torch.nn.Module, torch.optim.Optimizer]
    facts: tuple[list[dict[str, Any]], str]
    adaptive: Callable[[], dict[str, Any]]
    every: float
    total: int
    group: Group
    saved: float = field(default_factory=time.monotonic)

    def after(self, steps: int) -> None:
        """Called when a step is taken; raises `Stopped` where the run is asked to end before its last one."""
        if steps >= self.total:
            return
        if self.group.of_first(asked()):
            self.leave(steps)
        if self.group.of_first(time.monotonic() - self.saved >= self.every):
            self._save(steps)
            self.saved = time.monotonic()

    def leave(self, steps: int) -> NoReturn:
        """Write what was taken of the run, and end it."""
        if steps:
            self._save(steps)
        kept = (
            f"a checkpoint of step {steps} of {self.total} is written" if steps else "no step was taken yet"
        )
        raise Stopped(f"asked to end by a signal (SIGTERM); {kept}, and {AGAIN}")

    def _save(self, steps: int) -> None:
        checkpoint.save(*self.of, steps, *self.facts, self.adaptive(), self.group)
