"""A tokenizer without its model, for data that are measured in its tokens: no weights are read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipeline_lib.core.errors import UserError
from pipeline_lib.core.locate import expand
from pipeline_lib.core.untrusted import check_model_folder
from pipeline_lib.models.checks import TOKENIZER_FILES
from pipeline_lib.models.hub import first_line, hub_folder
from pipeline_lib.models.source import load_gguf

FILES = ["*.json", "*.jinja", "*.txt", "*.model"]  # a hub model's files without its weights


def load_tokenizer(*, id: str | None = None, revision: str | None = None, path: str | None = None) -> Any:
    """A fast tokenizer of transformers: of the hub model `id` at the commit `revision`, or of a folder.

    As with models, a copy under $PIPELINE_MODELS stands in for a hub id. For a GGUF file the weights are read
    too and thrown away. Raises `UserError` if there is no tokenizer, or if it does not say which characters
    its tokens are.
    """
    if id is not None:
        folder, name = hub_folder(id, revision or "", FILES), f"{id}@{revision}"
    else:
        assert path is not None
        folder, name = expand(path), path
    if folder.suffix == ".gguf":
        return _checked(load_gguf(folder)[1], name)
    if not any((folder / file).is_file() for file in TOKENIZER_FILES):
        found = "a folder without" if folder.is_dir() else "no folder, so no"
        raise UserError(
            f"tokenizer {name}: expected one of {', '.join(TOKENIZER_FILES)}, found {found} such file"
        )
    check_model_folder(folder, name)
    return _checked(from_folder(folder, name), name)


def from_folder(folder: Path, name: str) -> Any:
    """The tokenizer of a folder on this machine, fast or not; `name` is what messages call it."""
    from transformers import AutoTokenizer  # takes seconds to import

    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # the tokenizers library raises bare Exceptions
        raise UserError(f"tokenizer {name}: cannot be loaded: {first_line(error)}") from error


def _checked(tokenizer: Any, name: str) -> Any:
    if not tokenizer.is_fast:
        raise UserError(
            f"tokenizer {name}: it does not say which characters its tokens are. Convert it to a "
            "tokenizer.json (load it with transformers and save it), or use another one."
        )
    return tokenizer
