"""A tokenizer without its model, for data that are measured in its tokens: no weights are read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import model_validator

from pipeline_lib.core.blocks import Block, Faults, HubId, PathText, Revision
from pipeline_lib.core.errors import UserError
from pipeline_lib.core.locate import expand
from pipeline_lib.core.untrusted import check_model_folder
from pipeline_lib.models.checks import TOKENIZER_FILES
from pipeline_lib.models.hub import first_line, hub_folder
from pipeline_lib.models.source import load_gguf

FILES = ["*.json", "*.jinja", "*.txt", "*.model"]  # a hub model's files without its weights


class TokenizerOf(Block):
    """The tokenizer that measures chunks: of a model of the hub, or of a folder."""

    id: HubId | None = None
    revision: Revision | None = None
    path: PathText | None = None

    @model_validator(mode="after")
    def _one_of_two(self) -> TokenizerOf:
        if (self.id is None) == (self.path is None):
            raise Faults([("id", "give either `id` with `revision`, or `path`")])
        if (self.id is None) != (self.revision is None):
            raise Faults([("revision", "goes with `id`: the commit of the model")])
        return self


def load_tokenizer(settings: TokenizerOf) -> Any:
    """A fast tokenizer of transformers: of a model of the hub, or of a folder.

    As with models, a copy under $PIPELINE_MODELS stands in for a hub id. For a GGUF file the weights are read
    too and thrown away. Raises `UserError` if there is no tokenizer, or if it does not say which characters
    its tokens are.
    """
    if settings.path is not None:
        folder, name = expand(settings.path), settings.path
    else:
        assert settings.id is not None and settings.revision is not None
        folder = hub_folder(settings.id, settings.revision, FILES)
        name = f"{settings.id}@{settings.revision}"
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
