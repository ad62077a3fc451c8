"""Files of this machine that a suite reads, by content: own data and models, and local copies of the hub's.

Rules take these identities as parameters, so that a file edited in place reruns exactly the jobs that depend
on it. Files of the hub are identified by their pinned revision, which the settings hold. Never imports torch.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline_lib.benchmarks.data import Asked, files_at_hand
from pipeline_lib.core.blocks import Block, InsideFolder, OnThisMachine, blocks_in, marks_of
from pipeline_lib.core.errors import UserError
from pipeline_lib.core.locate import expand
from pipeline_lib.data.contents import Contents
from pipeline_lib.data.toxicity_prompts import HubPrompts, stand_in
from pipeline_lib.models.hub import cached_folder, local_copy
from pipeline_lib.models.weights import weight_files
from pipeline_lib.study.evaluation import Benchmarks

# Files beside the weights that transformers or this project reads from a model's folder. Logs, pickles,
# checkpoints and weights that the index does not name do not count.
MODEL_FILES = (
    "config.json",
    "generation_config.json",
    "adapter_config.json",
    "*.safetensors.index.json",
    "*.model",
    "tokenizer*",
    "vocab.*",
    "merges.txt",
    "added_tokens.json",
    "special_tokens_map.json",
    "chat_template*",
    "additional_chat_templates/*.jinja",
    "modules.json",  # of sentence-transformers
    "*_bert_config.json",
    "*_Pooling/config.json",
)

Files = dict[str, Path]  # name within what they are part of -> where it is


def identities(block: Block | None, contents: Contents) -> dict[str, str]:
    """Field of the block that names something on this machine -> hash of what is there.

    Files that the hub serves, and files that are not on this machine, are left out.
    """
    return {
        field: digest
        for field, name, files in (() if block is None else read_by(block))
        if (digest := contents.identity(name, files))
    }


def read_by(block: Block, prefix: str = "") -> Iterator[tuple[str, str, Files]]:
    """(field, name, files) of everything that a block and the blocks inside it read."""
    told = _told_by(block)
    if told is not None:
        yield prefix.rstrip(".") or "files", _named(block), told
    inside = list(marked(block, InsideFolder).values())
    for name, value in blocks_in(block):
        yield from read_by(value, f"{prefix}{name}.")
    if told is None:
        for name, value in marked(block, OnThisMachine).items():
            yield f"{prefix}{name}", f"{name} of {_named(block)}", _files_at(value, inside)


def marked(block: Block, kind: type) -> dict[str, Any]:
    """Fields whose types have such a mark, except those whose value is None or excepted by the mark."""
    found = {}
    for name, field in type(block).model_fields.items():
        marks = [mark for mark in marks_of(field) if isinstance(mark, kind)]
        value = getattr(block, name)
        if marks and value not in [getattr(mark, "unless", None) for mark in marks]:
            found[name] = value
    return found


def _named(block: Block) -> str:
    """The settings that say what a block reads, as the suite writes them."""
    places = {
        name: value for name, value in block if name in ("source", "kind", "id", "hub", "revision", "tasks")
    }
    return json.dumps(places | marked(block, OnThisMachine) | marked(block, InsideFolder))


def _told_by(block: Block) -> Files | None:
    """The files of a block whose fields alone do not name them; None for every other block."""
    fields = dict(block)
    if isinstance(block, Benchmarks):
        return files_at_hand(Asked(**fields))
    if isinstance(block, HubPrompts):
        return _present(stand_in(block.id))
    if fields.get("id") is not None and fields.get("revision") is not None:
        return _copy_of_model(fields["id"], fields["revision"])
    return block.reads()


def _copy_of_model(model_id: str, revision: str) -> Files | None:
    """The copy under $PIPELINE_MODELS; none where the hub's own is at hand."""
    try:
        copy = local_copy(model_id)
    except UserError:  # the job says what is wrong with the variable
        return {}
    if copy is None:
        return None if cached_folder(model_id, revision) else {}
    return _files_at(copy, [])


def _files_at(written: str, inside: list[str]) -> Files:
    try:
        path = expand(written)
    except UserError:  # a variable is not set, so the files are not at hand
        return {}
    if not path.is_dir():
        return _present(path)
    if inside:
        return {name: path / name for name in inside}
    if any((path / name).is_file() for name in ("config.json", "tokenizer.json", "tokenizer_config.json")):
        return _of_model(path)
    return {Path(file).relative_to(path).as_posix(): Path(file) for file in _visible(path)}


def _of_model(folder: Path) -> Files:
    try:
        weights = weight_files(folder)
    except UserError:  # a shard is missing: the job says so
        weights = list(folder.glob("*.safetensors"))
    others = [file for pattern in MODEL_FILES for file in folder.glob(pattern) if file.is_file()]
    return {file.relative_to(folder).as_posix(): file for file in (*weights, *others)}


def _visible(folder: Path) -> Iterator[str]:
    for place, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (os.path.join(place, name) for name in files if not name.startswith("."))


def _present(path: Path | None) -> Files:
    return {"": path} if path is not None and path.is_file() else {}
