"""The model folder that every training step writes: safetensors, tokenizer, prompt.json, run.json.

A run that diverged leaves a folder with run.json alone: its weights mean nothing, the fact does.
"""

from __future__ import annotations

import copy
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline_lib.errors import UserError
from pipeline_lib.files import atomic_path, read_json, write_json
from pipeline_lib.models.prompt import PromptFormat
from pipeline_lib.models.source import load_folder, weight_hashes

if TYPE_CHECKING:
    import torch


def save_model_folder(
    folder: Path | str,
    model,
    tokenizer,
    prompt_format: PromptFormat,
    run: dict[str, Any],
    max_shard_size: str = "5GB",
) -> dict[str, Any]:
    """Write the folder, all or nothing, and return `run` with `weights_sha256` added.

    Weights are written as fp32, whatever they were computed in. `run["status"]` "diverged" writes
    run.json only, with `weights_sha256` null.
    """
    diverged = run["status"] == "diverged"
    with atomic_path(folder) as temporary:
        temporary.mkdir()
        if not diverged:
            model.save_pretrained(temporary, state_dict=_as_fp32(model), max_shard_size=max_shard_size)
            config = copy.deepcopy(model.config)
            config.dtype = "float32"  # as the files are, also where the model in memory is not
            config.save_pretrained(temporary)
            tokenizer.save_pretrained(temporary)
            write_json(temporary / "prompt.json", prompt_format.to_dict())
        run = {**run, "weights_sha256": None if diverged else weights_sha256(temporary)}
        write_json(temporary / "run.json", run)
    return run


def load_model_folder(folder: Path | str, dtype: torch.dtype | None = None):
    """(model, tokenizer, prompt_format, run) of a folder written by `save_model_folder`; fp32 by default."""
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"{folder}: no such model folder. Run the step that trains it first.")
    run = read_json(folder / "run.json")
    if run["status"] == "diverged":
        raise UserError(
            f"{folder}: this run diverged at step {run.get('diverged_step')} and has no weights. "
            "Lower its learning rate, or leave it out."
        )
    prompt_format = PromptFormat.from_dict(read_json(folder / "prompt.json"))
    model, tokenizer = load_folder(folder, dtype)
    return model, tokenizer, prompt_format, run


def _as_fp32(model) -> dict[str, torch.Tensor]:
    """The state in fp32: tensors that are fp32 already are not copied, tied ones stay one tensor."""
    by_storage: dict[tuple, torch.Tensor] = {}
    return {
        name: by_storage.setdefault((value.data_ptr(), value.shape), value.float())
        for name, value in model.state_dict().items()
    }


def weights_sha256(folder: Path) -> str:
    """One hash for all weight files of a folder, whatever order they are listed in."""
    lines = "".join(f"{digest}  {name}\n" for name, digest in sorted(weight_hashes(folder).items()))
    return hashlib.sha256(lines.encode()).hexdigest()
