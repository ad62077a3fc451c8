"""Checkpoints of a run: whole or absent, safetensors and JSON only, exact to the bit."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from pipeline_lib.errors import UserError
from pipeline_lib.files import atomic_path, read_json, write_json


def save(
    folder: Path,
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    step: int,
    log: list[dict[str, Any]],
    fingerprint: str,
    adaptive: dict[str, Any],
) -> None:
    """Write parameters, optimiser state, the finished step and the log so far, atomically.

    `adaptive`: plain values by which the loop adapts itself. Those of the optimiser are in its
    parameter groups, whose plain values are kept with it.
    """
    tensors = {
        f"model.{name}": p.detach().contiguous() for name, p in model.named_parameters() if p.requires_grad
    }
    held = optimizer.state_dict()
    for index, state in held["state"].items():
        for key, value in state.items():
            tensors[f"optimizer.{index}.{key}"] = torch.as_tensor(value).contiguous()
    with atomic_path(folder) as temporary:
        temporary.mkdir()
        save_file(tensors, temporary / "tensors.safetensors")
        groups = [
            {key: value for key, value in group.items() if _plain(value)} for group in held["param_groups"]
        ]
        content = {"step": step, "fingerprint": fingerprint, "log": log, "groups": groups}
        write_json(temporary / "state.json", {**content, "adaptive": adaptive})


def load(
    folder: Path, model: torch.nn.Module, optimizer: torch.optim.Optimizer, fingerprint: str
) -> tuple[int, list[dict[str, Any]], dict[str, Any]]:
    """Restore model and optimiser in place; returns the finished step, its log and what is adaptive.

    Without a checkpoint (0, [], {}).

    A checkpoint of other settings (another `fingerprint`) or one that cannot be read is not used:
    the run starts over, with a line on stderr that says so.
    """
    if not folder.is_dir():
        return 0, [], {}
    try:
        state = read_json(folder / "state.json")
        step, log, groups, adaptive = (state[name] for name in ("step", "log", "groups", "adaptive"))
        if state["fingerprint"] != fingerprint:
            print(f"{folder}: checkpoint of other settings, starting over", file=sys.stderr)
            return 0, [], {}
        tensors = load_file(folder / "tensors.safetensors")
    except (UserError, SafetensorError, OSError, KeyError, TypeError) as error:
        print(f"{folder}: unreadable checkpoint ({error}), starting over", file=sys.stderr)
        return 0, [], {}
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                parameter.copy_(tensors[f"model.{name}"])
    restored = optimizer.state_dict()
    restored["state"] = {}
    for name, tensor in tensors.items():
        if name.startswith("optimizer."):
            _, index, key = name.split(".", 2)
            restored["state"].setdefault(int(index), {})[key] = tensor
    for group, saved in zip(restored["param_groups"], groups, strict=True):
        group.update(saved)
    optimizer.load_state_dict(restored)
    return step, log, adaptive


def _plain(value: Any) -> bool:
    """Whether JSON gives the value back as it is."""
    return value is None or isinstance(value, bool | int | float | str)
