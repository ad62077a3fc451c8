"""From what a suite says (a folder with variables, a data set of the hub) to paths on this machine."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from pipeline_lib.core.errors import UserError

_local = ContextVar("only files of this machine", default=False)


class NotAtHand(UserError):
    """Something from the hub is not on this machine, and nothing may be downloaded."""


@contextmanager
def nothing_downloaded() -> Iterator[None]:
    """In this block, anything missing from the hub's cache raises `NotAtHand`; for checks before a run."""
    token = _local.set(True)
    try:
        yield
    finally:
        _local.reset(token)


def downloads_off() -> bool:
    """Whether only files on this machine may be read."""
    return _local.get()


def expand(path: str) -> Path:
    """`path` with $NAME, ${NAME} and ~ filled in; a variable that is not set is an error."""

    def value(match: re.Match[str]) -> str:
        name = match[1] or match[2]
        if not os.environ.get(name):
            raise UserError(
                f"{path}: the environment variable {name} is not set. Set it (export {name}=/some/folder) "
                "or write the path out."
            )
        return os.environ[name]

    return Path(re.sub(r"\$(?:\{(\w+)\}|(\w+))", value, path)).expanduser()


def expanded_folder(folder: str) -> Path:
    """`folder` with `~` and `$VARIABLES` filled in; it must exist."""
    path = expand(folder)
    if not path.is_dir():
        found = "a file" if path.exists() else "nothing"
        raise UserError(f"folder {folder!r}: expected a folder at {path.absolute()}, found {found}")
    return path


def hub_file(hub: str, revision: str, name: str) -> Path:
    """One file of a data set of the hub at a pinned revision, downloaded once into the hub's cache."""
    if not re.fullmatch(r"[0-9a-f]{40}", revision):
        raise UserError(
            f"revision of {hub}: expected a commit (40 digits and letters a to f), found {revision!r}; "
            "a branch or tag can change and would make the results irreproducible"
        )
    from huggingface_hub import hf_hub_download  # takes a second to import; needed only here
    from huggingface_hub.errors import LocalEntryNotFoundError

    local = downloads_off()
    try:
        return Path(
            hf_hub_download(hub, name, repo_type="dataset", revision=revision, local_files_only=local)
        )
    except Exception as error:  # errors of several network libraries
        if local and isinstance(error, LocalEntryNotFoundError):
            raise NotAtHand(f"data set {hub}") from None
        raise UserError(
            f"data set {hub} at revision {revision}: cannot get {name} from the hub "
            f"({type(error).__name__}: {' '.join(str(error).split())[:200]}). "
            "Check the network, the id and the revision; or set `folder` to a folder that holds the file, "
            "or $PIPELINE_DATA to the folder above it."
        ) from error
