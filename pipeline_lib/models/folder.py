"""The model folder that every training step writes: safetensors, tokenizer, prompt.json, run.json.

A run that diverged leaves a folder with run.json alone: its weights mean nothing, the fact does. The folder
of a pretrained model that is evaluated as it is has no weights either: run.json says where they lie.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from pipeline_lib.core.errors import UserError
from pipeline_lib.core.files import atomic_path, read_object, run_again, sha256, write_json
from pipeline_lib.core.untrusted import READ
from pipeline_lib.models.ends import all_ends, as_written
from pipeline_lib.models.prompt import PromptFormat
from pipeline_lib.models.source import load_folder, load_source
from pipeline_lib.models.weights import weight_hashes

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
    """Write the folder, all or nothing, and return `run` with `weights_sha256` and `files_sha256` added.

    Weights are written as fp32, whatever they were computed in. If `run["status"]` is not "ok", only
    run.json is written, with `weights_sha256` null. With `run["weights_in"]` the weights stay where
    that says (see `load_model_folder`): the folder has neither them nor the tokenizer. A narrower model is
    widened in place, weight after weight, and restored afterwards: there is never a second model in memory.
    """
    lost, elsewhere = run["status"] != "ok", "weights_in" in run
    with atomic_path(folder) as temporary:
        temporary.mkdir()
        if not lost and not elsewhere:
            # so that transformers and other programs stop where answers stop here
            model.generation_config.eos_token_id = as_written(all_ends(tokenizer, prompt_format))
            with _as_fp32(model):
                model.save_pretrained(temporary, max_shard_size=max_shard_size)
            config = copy.deepcopy(model.config)
            config.dtype = "float32"  # the type in the files, whatever the model has in memory
            config.save_pretrained(temporary)
            tokenizer.save_pretrained(temporary)
        if not lost:
            write_json(temporary / "prompt.json", prompt_format.to_dict())
        hashes = None
        if not lost:
            hashes = _one_hash(run["origin"]["sha256"] if elsewhere else weight_hashes(temporary))
        run = {**run, "weights_sha256": hashes, "files_sha256": _other_files(temporary)}
        write_json(temporary / "run.json", run)
    return run


def load_model_folder(folder: Path | str, dtype: torch.dtype | None = None):
    """(model, tokenizer, prompt_format, run) of a folder written by `save_model_folder`; fp32 by default.

    Where run.json has `weights_in`, they come from there: {"source": "hub", "id", "revision"},
    {"source": "folder" or "gguf", "path"}, or {"base"}, a model that the study pretrained, seen from here.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"{folder}: no such model folder. Run the step that trains it first.")
    run = read_object(folder / "run.json", "status", "weights_sha256")
    if run["status"] == "unmatched":
        raise UserError(
            f"{folder}: this run, or one that it was made from, has no model with the utility at which rows "
            "are compared that is nearer to `retrained` than `original`, so none of it is matched. Train at "
            "a lower learning rate, or longer, or name another model."
        )
    if run["status"] == "blind":
        raise UserError(
            f"{folder}: `original` has too little of every utility split to lose any (all parts are blind), "
            "so no model can be matched by it. Train `original` longer, or switch `trajectory.matched` off."
        )
    if run["status"] == "diverged":
        raise UserError(
            f"{folder}: this run diverged at step {run.get('diverged_step')} and has no weights. "
            "Lower its learning rate, or leave it out."
        )
    _check_seals(folder, run)
    prompt_format = PromptFormat.from_dict(read_object(folder / "prompt.json"))
    if (where := run.get("weights_in")) is None:
        model, tokenizer = load_folder(folder, dtype)
    else:
        model, tokenizer, origin = _from_elsewhere(folder, where)
        if origin["sha256"] != run["origin"]["sha256"]:
            raise UserError(
                f"{folder}: the pretrained weights are not those that it names (origin in run.json): they "
                f"were changed since. Put them back as they were. Or else: {run_again(folder)}"
            )
        model = model if dtype is None else model.to(dtype)
    return model, tokenizer, prompt_format, run


def _from_elsewhere(folder: Path, where: dict[str, str]):
    if "base" in where:
        return load_pretrained(None, folder / where["base"])
    return load_pretrained(SimpleNamespace(**where), None)


def load_pretrained(settings: Any, base: Path | None):
    """(model, tokenizer, origin) of a model before any fine-tuning.

    `base`: its folder, where the study pretrained it; else `settings`, which say where others published it.
    """
    if base is None:
        return load_source(settings)
    model, tokenizer, _, _ = load_model_folder(base)
    return model, tokenizer, {"kind": "pretrained", "sha256": weight_hashes(base)}


@contextmanager
def _as_fp32(model) -> Iterator[None]:
    """Inside, parameters and buffers are fp32; afterwards each has its own type again, with the same bits."""
    narrow = [
        (tensor, tensor.dtype)
        for tensor in (*model.parameters(), *model.buffers())
        if tensor.is_floating_point() and tensor.dtype.itemsize < 4
    ]
    try:
        for tensor, _ in narrow:
            tensor.data = tensor.data.float()
        yield
    finally:
        for tensor, dtype in narrow:
            tensor.data = tensor.data.to(dtype)


def _check_seals(folder: Path, run: dict[str, Any]) -> None:
    """`UserError` unless the folder's files are those that were written there, by the hashes in run.json.

    Folders of earlier versions have hashes of their weights only.
    """
    files = [(file, file.stat()) for file in sorted(folder.iterdir()) if file.is_file()]
    stamp = tuple((file.name, facts.st_size, facts.st_mtime_ns) for file, facts in files)
    weights, others = _hashes_now(folder, stamp)
    if weights is not None and weights != run["weights_sha256"]:
        raise UserError(
            f"{folder}: its weights are not those that were written there (weights_sha256 in run.json): "
            f"a file is cut, missing or damaged. {run_again(folder)}"
        )
    sealed = run.get("files_sha256")
    if not isinstance(sealed, dict):
        return
    for name in sorted({*sealed, *others}):
        what = "is missing" if name not in others else "was added" if name not in sealed else "was changed"
        if sealed.get(name) != others.get(name):
            raise UserError(
                f"{folder}: {name} {what} after the model was written (files_sha256 in run.json), so it "
                f"is not the model that was trained. Put the file back as it was. Or else: "
                f"{run_again(folder)}"
            )


@cache
def _hashes_now(folder: Path, stamp: tuple[tuple[str, int, int], ...]) -> tuple[str | None, dict[str, str]]:
    """The hash of the weights (None without any) and of each other file that is read.

    Kept for the process: an evaluation at equal retention loads the same folder many times.
    """
    weights = weights_sha256(folder) if any(name.endswith(".safetensors") for name, *_ in stamp) else None
    return weights, _other_files(folder)


def _other_files(folder: Path) -> dict[str, str]:
    """SHA-256 of each file beside the weights that a reader of the folder opens, except run.json."""
    return {
        file.name: sha256(file)
        for file in sorted(folder.iterdir())
        if file.is_file() and file.suffix in READ and file.name != "run.json"
    }


def weights_sha256(folder: Path) -> str:
    """One hash of all weight files of a folder; it does not depend on the order in which they are listed."""
    return _one_hash(weight_hashes(folder))


def _one_hash(digests: dict[str, str]) -> str:
    lines = "".join(f"{digest}  {name}\n" for name, digest in sorted(digests.items()))
    return hashlib.sha256(lines.encode()).hexdigest()
