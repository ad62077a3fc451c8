"""Checkpoints of a run: whole or absent, safetensors and JSON only, exact to the bit."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from pipeline_lib.core.errors import UserError
from pipeline_lib.core.files import atomic_path, check_seal, read_object, seal, write_json
from pipeline_lib.core.stopping import AGAIN, Stopped, asked
from pipeline_lib.distributed.group import ALONE, Group


@dataclass(frozen=True)
class Kept:
    """Where the checkpoints of a run lie; one with another `fingerprint` of settings and code is not used."""

    folder: Path
    fingerprint: str


@dataclass
class Progress:
    """Steps taken, a row of the log for each, and plain values by which objective and update adapt."""

    step: int = 0
    log: list[dict[str, Any]] = field(default_factory=list)
    adaptive: dict[str, Any] = field(default_factory=dict)


def save(
    kept: Kept,
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    progress: Progress,
    group: Group = ALONE,
) -> None:
    """Write parameters, optimiser state and what was reached, atomically.

    What an optimiser adapts is in its parameter groups, whose plain values are kept with it. Every process of
    `group` calls this and the first writes; tensors are whole in the file, so that any number of processes
    can continue from it.
    """
    tensors = {
        f"model.{name}": group.whole(p, p.detach()).contiguous()
        for name, p in model.named_parameters()
        if p.requires_grad
    }
    held = optimizer.state_dict()
    stepped = [parameter for settings in optimizer.param_groups for parameter in settings["params"]]
    for index, state in held["state"].items():
        for key, value in state.items():
            tensor = torch.as_tensor(value)
            tensors[f"optimizer.{index}.{key}"] = group.whole(stepped[index], tensor).contiguous()
    if not group.writes:
        return
    with atomic_path(kept.folder) as temporary:
        temporary.mkdir()
        save_file(tensors, temporary / "tensors.safetensors")
        groups = [  # what JSON gives back as it is
            {key: value for key, value in settings.items() if isinstance(value, int | float | str | None)}
            for settings in held["param_groups"]
        ]
        write_json(
            temporary / "state.json",
            {"fingerprint": kept.fingerprint, "groups": groups, **vars(progress)},
        )
        seal(temporary)


def load(
    kept: Kept, model: torch.nn.Module, optimizer: torch.optim.Optimizer, group: Group = ALONE
) -> Progress:
    """Restore model and optimiser in place; returns what was reached, which is nothing without a checkpoint.

    A checkpoint of other settings (another `fingerprint`), or one that cannot be read, is not used: the run
    starts over, and a line on stderr says so.
    """
    found = _read(kept, group.writes)
    # Processes that read at different times, or on different disks, must not continue from different steps.
    group.check_same(found[0]["step"] if found else 0, "the step of the checkpoint to continue from")
    if found is None:
        return Progress()
    state, tensors = found
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                parameter.copy_(group.part(parameter, tensors[f"model.{name}"]))
    restored: dict[str, Any] = {**optimizer.state_dict(), "state": {}}
    stepped = [parameter for settings in optimizer.param_groups for parameter in settings["params"]]
    for name, tensor in tensors.items():
        if name.startswith("optimizer."):
            _, index, key = name.split(".", 2)
            own = restored["state"].setdefault(int(index), {})
            own[key] = group.part(stepped[int(index)], tensor)
    for settings, saved in zip(restored["param_groups"], state["groups"], strict=True):
        settings.update(saved)
    optimizer.load_state_dict(restored)
    return Progress(state["step"], state["log"], state["adaptive"])


def _read(kept: Kept, says: bool) -> tuple[dict[str, Any], dict[str, torch.Tensor]] | None:
    """State and tensors of a usable checkpoint, or None; with `says`, a line tells why one is of no use."""
    if not kept.folder.is_dir():
        return None
    try:
        check_seal(kept.folder)  # a changed bit in a tensor would go on as a number
        state = read_object(kept.folder / "state.json", "fingerprint", "step", "log", "groups", "adaptive")
        if state["fingerprint"] == kept.fingerprint:
            return state, load_file(kept.folder / "tensors.safetensors")
        reason = "checkpoint of other settings"
    except (UserError, SafetensorError, OSError) as error:
        reason = f"unreadable checkpoint ({error})"
    if says:
        print(f"{kept.folder}: {reason}, starting over", file=sys.stderr)
    return None


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
        """Where the run is asked to end, write what was taken of it, and raise `Stopped`."""
        if not self.group.of_first(asked()):
            return
        kept = "no step was taken yet"
        if steps:
            self.save()
            kept = f"a checkpoint of step {steps} of {self.total} is written"
        raise Stopped(f"asked to end by a signal (SIGTERM); {kept}, and {AGAIN}")
