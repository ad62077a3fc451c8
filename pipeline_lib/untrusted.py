"""Folders that came from elsewhere: only what lies inside them is opened, and nothing that can run code.

A downloaded or unpacked folder can hold a link to a file of this machine, or name one (`../../x`) in an
index; what is read through it would end up in a saved model, a record or an error message. Links of the hub's
cache, whose files lie beside the snapshot as `blobs/<hash>`, are let through.
"""

from __future__ import annotations

import re
from pathlib import Path

from pipeline_lib.errors import UserError
from pipeline_lib.files import read_json

INDEX = "model.safetensors.index.json"
ADAPTER = "adapter_config.json"
MOST_FILES = 10_000


def inside(folder: Path, name: str) -> Path:
    """The path of the file `name` of `folder`; raises `UserError` where it leads out of the folder.

    The folder itself may be a link; a file that does not exist is for its reader to miss.
    """
    path = folder / name
    if not _lies_in(path, folder):
        raise UserError(
            f"{path}: leads out of its folder. Copy the file into {folder}, or name the folder where it "
            "really is."
        )
    return path


def check_model_folder(folder: Path, name: str | None = None) -> None:
    """Refuse a model folder that would make its reader open something else; `name` is what messages call it.

    Refused: links that lead out, an index of weights that names other files than safetensors beside it, and
    an adapter, which would be loaded on top of the weights without a word, from a pickle too.
    """
    name = name or str(folder)
    for number, path in enumerate(folder.rglob("*")):
        if number >= MOST_FILES:
            raise UserError(f"{name}: holds more than {MOST_FILES} files; expected the folder of one model")
        if path.is_symlink() and not _lies_in(path, folder):
            raise UserError(
                f"{name}: {path.relative_to(folder)} is a link that leads out of the folder, to "
                f"{path.readlink()}. Copy the file into the folder."
            )
    if (folder / ADAPTER).is_file():
        raise UserError(
            f"{name}: holds an adapter ({ADAPTER}) beside the weights, and it is unclear which model is "
            "meant. Merge it into the weights (peft's `merge_and_unload`) and save the result, or remove its "
            "files."
        )
    if (folder / INDEX).is_file():
        _check_index(folder, name)


def _check_index(folder: Path, name: str) -> None:
    index = read_json(folder / INDEX)
    shards = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(shards, dict) or not all(isinstance(shard, str) for shard in shards.values()):
        raise UserError(f"{name}: {INDEX} has no `weight_map` of weights to files. Download it again.")
    for shard in sorted(set(shards.values())):
        if not re.fullmatch(r"[\w.-]+\.safetensors", shard):
            raise UserError(
                f"{name}: {INDEX} names the file {shard!r}; expected safetensors in the same folder and "
                "nothing else. Download the model again, from a source that you trust."
            )


def _lies_in(path: Path, folder: Path) -> bool:
    try:
        target = path.resolve()
    except (OSError, RuntimeError):  # a link that leads to itself
        return False
    blob = (
        target.parent.name == "blobs" and re.fullmatch("[0-9a-f]{40}|[0-9a-f]{64}", target.name) is not None
    )
    return blob or target.is_relative_to(folder.resolve())
