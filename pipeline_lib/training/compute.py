"""What the products of a training job are computed in: the setting `compute`, resolved where the job runs.

`auto` is bf16 where the machine multiplies it faster than fp32: on a GPU with bf16, and on a CPU with
instructions for it (AVX512-BF16, AMX-BF16) that torch can use. Anywhere else it is fp32: torch would emulate
bf16, with its rounding and without its speed.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TypeVar

import torch

from pipeline_lib.distributed.group import Group
from pipeline_lib.models.products import CPU_FACTS
from pipeline_lib.training.settings import Training

Trained = TypeVar("Trained", bound=Training)

CPU_FLAGS = ("avx512_bf16", "amx_bf16")  # as Linux names them


def with_compute(training: Trained, device: torch.device, group: Group) -> Trained:
    """The settings with what products are computed in on this device, in place of `auto`.

    A job calls it once, before it writes or reads a checkpoint: what one precision began is not continued in
    another. Processes that share a run compute as the first one does.
    """
    chosen, line = compute_of(training.compute, device)
    if line is None:
        return training
    if group.writes:
        print(line, file=sys.stderr)
    chosen = "bf16" if group.of_first(chosen == "bf16") else "fp32"
    return training.model_copy(update={"compute": chosen})


def compute_of(setting: str, device: torch.device) -> tuple[str, str | None]:
    """ "fp32" or "bf16", and for `auto` a line for the job's log: what was looked for, found, and is done."""
    if setting != "auto":
        return setting, None
    sought, found, fast = _of_gpu(device) if device.type == "cuda" else _of_cpu(CPU_FACTS)
    chosen = "bf16" if fast else "fp32"
    return chosen, f"compute: auto looked for {sought} and found {found}; products are in {chosen}"


def _of_gpu(device: torch.device) -> tuple[str, str, bool]:
    """What is looked for, what was found, and whether bf16 is faster."""
    fast = torch.cuda.is_bf16_supported(including_emulation=False)
    name = torch.cuda.get_device_name(device)
    return "a GPU that multiplies bf16", f"{name}, which does{'' if fast else ' not'}", fast


def _of_cpu(facts: Path) -> tuple[str, str, bool]:
    """The same of a CPU, from the file in which Linux describes it."""
    sought = f"a CPU with {' or '.join(CPU_FLAGS)} in {facts}"
    try:
        lines = facts.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:  # not Linux
        return sought, "no such file", False
    flags = {flag for line in lines if line.startswith("flags") for flag in line.split()}
    found = [flag for flag in CPU_FLAGS if flag in flags]
    if found and not torch.backends.mkldnn.is_available():
        return sought, f"{' and '.join(found)}, but no oneDNN in torch, which would use it", False
    return sought, " and ".join(found) or "neither", bool(found)
