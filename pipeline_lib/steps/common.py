"""What the training and evaluation steps share: the device, threads, and facts for run.json."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from pipeline_lib.core.errors import UserError
from pipeline_lib.core.files import read_object, remove_leftovers, write_json, write_jsonl
from pipeline_lib.core.provenance import git_commit, versions
from pipeline_lib.core.runs import LOST
from pipeline_lib.models.folder import load_model_folder, save_model_folder
from pipeline_lib.models.memory import peak_memory_mb
from pipeline_lib.models.products import use_fast_products
from pipeline_lib.models.prompt import PromptFormat
from pipeline_lib.steps.job import Job

if TYPE_CHECKING:
    from pipeline_lib.stages.base import Made
    from pipeline_lib.training.loop import Outcome

# Read when the job starts, together with its code: the checkout may change before the job ends.
COMMIT = git_commit()
TRAJECTORY = "pipeline_lib.steps.trajectory"  # imported by this name, where a job is judged on its way


def start(device: str, threads: int) -> torch.device:
    """Set the threads and choose the device: "auto", "cpu" or "cuda".

    Products of fp32 matrices are computed in fp32. That is torch's default, but the environment of some
    containers (TORCH_ALLOW_TF32_CUBLAS_OVERRIDE) silently rounds their factors to 10 bits.
    """
    torch.set_num_threads(threads)
    torch.set_float32_matmul_precision("highest")
    available = torch.cuda.is_available()
    if device == "cuda" and not available:
        raise UserError("resources.device is cuda, but torch finds no GPU; use auto or cpu")
    return torch.device("cuda" if available and device != "cpu" else "cpu")


def on_device(model: Any, device: torch.device) -> Any:
    """The model on this device, with the products that are fastest there."""
    return use_fast_products(model.to(device))


def load_for_evaluation(folder: Path, device: torch.device) -> tuple[Any, Any, PromptFormat, dict[str, Any]]:
    """What `load_model_folder` gives, with the model on this device and in evaluation mode."""
    model, tokenizer, prompt_format, info = load_model_folder(folder)
    return on_device(model, device).eval(), tokenizer, prompt_format, info


def lost(model_dir: Path) -> str | None:
    """Why this folder holds no model to ask, a key of `LOST`; None where it holds one."""
    status: str = read_object(model_dir / "run.json", "status")["status"]
    return status if status in LOST else None


def fingerprint(*parts: Any) -> str:
    """Hash of plain values: a checkpoint or partial result is used only where the hash is the same."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


def data_hashes(data_dir: Path) -> dict[str, str]:
    """SHA-256 of each split's file."""
    manifest = read_object(data_dir / "manifest.json", "splits")
    return {name: split["sha256"] for name, split in manifest["splits"].items()}


def run_facts(
    identity: dict[str, Any],
    outcome: Outcome | Made,
    device: torch.device,
    started: float,
    **settings: Any,
) -> dict[str, Any]:
    """The content of run.json: who, how, on what, and what it cost."""
    return {
        "status": outcome.status,
        "diverged_step": outcome.diverged_step,
        **identity,
        **settings,
        "steps": outcome.steps,
        "train_time_s": outcome.train_time_s,
        "wall_time_s": time.monotonic() - started,
        "peak_memory_mb": peak_memory_mb(device),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "threads": torch.get_num_threads(),
        "versions": versions(),
        "git_commit": COMMIT,
        "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def became(asked: Mapping[str, Any], resolved: Mapping[str, Any]) -> str | None:
    """What `compute: auto` became on this machine, for run.json of what was trained; None: the suite chose.

    `asked` and `resolved`: the settings of a training, as the job has them and as it used them.
    """
    return resolved["compute"] if asked.get("compute") == "auto" else None


def save_run(job: Job, made: tuple[Any, Any, Any], facts: dict[str, Any], log: list[dict[str, Any]]) -> None:
    """Write the output `model`, and steps.jsonl and run.json, which are kept where the model itself is not.

    `made`: model, tokenizer and prompt format.
    """
    run = save_model_folder(job.output("model"), *made, facts)
    folder = job.output("run").parent
    write_jsonl(folder / "steps.jsonl", log)
    write_json(folder / "run.json", run)


def remove_work(folder: Path) -> None:
    """Delete what a job kept to be continued."""
    shutil.rmtree(folder, ignore_errors=True)
    remove_leftovers(folder)
