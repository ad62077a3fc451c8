"""Folders from elsewhere: opens only files inside them, and nothing that can run code.

A downloaded or unpacked folder can hold a link to a file of this machine, or name one (`../../x`) in an
index; its content would end up in a saved model, a record or an error message. Links of the hub's cache,
whose files lie beside the model's snapshot as `blobs/<hash>`, are allowed.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from pipeline_lib.core.errors import UserError
from pipeline_lib.core.json_text import parse_json

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
ADAPTER = "adapter_config.json"
ADAPTER_WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")
MOST_FILES = 10_000
READ = {".json", ".jinja", ".model", ".txt"}  # beside the weights, whose reader looks at them
SETTINGS = ("config.json", "generation_config.json", "tokenizer_config.json")  # read by other libraries too
POINTERS = (b"version https://git-lfs", b"# xet version")


def inside(folder: Path, name: str) -> Path:
    """The path of the file `name` of `folder`; raises `UserError` where it leads out of the folder.

    The folder itself may be a link. A file that does not exist is left to its reader.
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

    Refused are links that lead out, placeholder files (a pointer of git-lfs, a web page, an empty file), an
    index of weights that names anything but safetensors beside it, and an adapter, which would silently be
    loaded on top of the weights, even from a pickle.
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
    for path in sorted(folder.iterdir()):
        if path.suffix in READ and path.is_file():
            check_content(path, name)
        if path.name in SETTINGS and path.is_file():
            read_foreign(path, name)
    weights = any((folder / file).is_file() for file in (SINGLE, INDEX))
    for adapter in (ADAPTER,) if weights else (ADAPTER, *ADAPTER_WEIGHTS):
        if (folder / adapter).is_file():
            raise UserError(_adapter(folder, adapter, weights, name))
    if (folder / INDEX).is_file():
        read_index(folder, name)


def check_content(path: Path, name: str) -> None:
    """`UserError` where a model's file holds something else."""
    with open(path, "rb") as file:
        begins = file.read(200)
    if begins.startswith(POINTERS):
        raise UserError(
            f"{name}: {path.name} is a pointer of git-lfs ({path.stat().st_size} bytes), not the file "
            "itself, which was never downloaded. Run `git lfs pull` in the folder (git-lfs installed), or "
            "download the file from the model's page."
        )
    if re.match(rb"\s*<(!doctype|html|\?xml)", begins, re.IGNORECASE):
        raise UserError(
            f"{name}: {path.name} is a web page, not the file: the download was answered with a message, "
            "often that one must log in or accept terms. Open it in a browser, then download it again."
        )
    if not begins.strip() and path.suffix != ".txt":
        raise UserError(f"{name}: {path.name} is empty. Download or copy it again.")


def read_foreign(path: Path, name: str) -> Any:
    """The JSON of a model's file; `UserError` where it is invalid or ambiguous."""
    try:
        return parse_json(path.read_bytes(), f"{name}: {path.name}")
    except UserError as error:
        raise UserError(f"{error}. Take the file that the model was published with.") from None


def _adapter(folder: Path, adapter: str, weights: bool, name: str) -> str:
    """What to do about an adapter, alone or beside weights."""
    merge = (
        "Merge it where you trust it: load the model it was trained on and the adapter with peft, call "
        "`merge_and_unload()`, save the result with `save_pretrained` (and the tokenizer), and use that "
        "folder"
    )
    if weights:
        return (
            f"{name}: holds an adapter ({adapter}) beside the weights, and it is unclear which model is "
            f"meant. {merge}; or name a folder of the weights alone, if they are the model you mean."
        )
    base = ""
    if adapter == ADAPTER:
        content = read_foreign(folder / adapter, name)
        named = content.get("base_model_name_or_path") if isinstance(content, dict) else None
        base = f", trained on {named}" if isinstance(named, str) and named.isprintable() else ""
    return f"{name}: is the folder of an adapter ({adapter}{base}), not of a whole model. {merge}."


def read_index(folder: Path, name: str) -> dict[str, str]:
    """Which file holds each weight; `UserError` unless all are safetensors beside the index."""
    index = read_foreign(folder / INDEX, name)
    shards = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(shards, dict) or not all(isinstance(shard, str) for shard in shards.values()):
        raise UserError(f"{name}: {INDEX} has no `weight_map` of weights to files. Download it again.")
    for shard in sorted(set(shards.values())):
        if not re.fullmatch(r"[\w.-]+\.safetensors", shard):
            raise UserError(
                f"{name}: {INDEX} names the file {shard!r}; expected safetensors in the same folder and "
                "nothing else. Download the model again, from a source that you trust."
            )
    return shards


def _lies_in(path: Path, folder: Path) -> bool:
    try:
        target = path.resolve()
    except (OSError, RuntimeError):  # a link that leads to itself
        return False
    return target.is_relative_to(folder.resolve()) or _is_blob(target, folder.resolve())


def _is_blob(target: Path, folder: Path) -> bool:
    """Whether a file lies in the hub cache's place for just this model.

    <model>/snapshots/<commit>/... is where `folder` is, <model>/blobs/<hash> where its files are.
    """
    if re.fullmatch("[0-9a-f]{40}|[0-9a-f]{64}", target.name) is None:
        return False
    snapshot = next((path for path in (folder, *folder.parents) if path.parent.name == "snapshots"), None)
    return snapshot is not None and target.parent == snapshot.parent.parent / "blobs"
