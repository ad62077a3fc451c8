"""Where a model's files are: a path with variables, a local copy, or the hub at a pinned commit."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from pipeline_lib.core.errors import UserError
from pipeline_lib.core.locate import NotAtHand, downloads_off, expand

DOWNLOADED = ["*.safetensors", "*.json", "*.jinja", "*.txt", "*.model"]  # *.model: sentencepiece


def cached_folder(repository: str, revision: str, kind: str = "models") -> Path | None:
    """The hub cache's folder of a pinned repository if it was downloaded, in huggingface_hub's layout."""
    home = Path(os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface").expanduser()
    cache = Path(os.environ.get("HF_HUB_CACHE") or home / "hub").expanduser()
    folder = cache / f"{kind}--{repository.replace('/', '--')}" / "snapshots" / revision
    return folder if folder.is_dir() else None


def local_copy(model_id: str) -> str | None:
    """The path under $PIPELINE_MODELS that stands in for a hub id, if there is one."""
    if not os.environ.get("PIPELINE_MODELS"):
        return None
    root = Path(os.environ["PIPELINE_MODELS"])
    if not root.is_dir():
        raise UserError(f"PIPELINE_MODELS={root}: no such folder. Correct the variable or unset it.")
    short = model_id.rpartition("/")[2]
    for name in dict.fromkeys((model_id, short)):
        if (root / name / "config.json").is_file():
            return f"$PIPELINE_MODELS/{name}"
    if (root / f"{short}.gguf").is_file():
        return f"$PIPELINE_MODELS/{short}.gguf"
    inside = sorted(file.name for file in (root / short).glob("*.gguf"))
    if len(inside) > 1:
        raise UserError(
            f"{root / short}: holds {len(inside)} GGUF files ({', '.join(inside)}); cannot tell which one "
            f"stands in for {model_id}. Keep one, or name it in the suite: source: gguf, path: ..."
        )
    return f"$PIPELINE_MODELS/{short}/{inside[0]}" if inside else None


def hub_folder(model_id: str, revision: str, patterns: Sequence[str] = DOWNLOADED) -> Path:
    """The model's folder, or GGUF file, on this machine: the local copy if there is one, else `download`."""
    local = local_copy(model_id)
    return download(model_id, revision, patterns) if local is None else expand(local)


def download(model_id: str, revision: str, patterns: Sequence[str] = DOWNLOADED) -> Path:
    """The folder in the hub's cache with the model's files that match the patterns, fetched once."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        # Only the repository's top level: subfolders hold other formats of the same weights.
        return Path(
            snapshot_download(
                model_id,
                revision=revision,
                allow_patterns=list(patterns),
                ignore_patterns=["*/*"],
                local_files_only=downloads_off(),
            )
        )
    except Exception as error:  # the network's, the disk's or the hub's, under many types
        if downloads_off() and isinstance(error, LocalEntryNotFoundError):
            raise NotAtHand(f"model {model_id}") from None
        denied = isinstance(error, HfHubHTTPError) and error.response.status_code in (401, 403)
        if isinstance(error, RevisionNotFoundError):
            told = ": the hub knows no such revision. Copy one from the model's page."
        elif isinstance(error, RepositoryNotFoundError) and not isinstance(error, GatedRepoError):
            told = ": the hub knows no such model. Check the id; if it is private, set HF_TOKEN."
        elif isinstance(error, GatedRepoError) or denied:
            told = (
                ": access is denied, its owner asks readers to accept terms. Accept them on the model's "
                "page, then set HF_TOKEN to a token of that account (or run `hf auth login`)."
            )
        else:
            told = (
                f" cannot be downloaded: {first_line(error)}. Check the network, and HF_TOKEN if the model "
                "is private. Without a network put the model under $PIPELINE_MODELS/<organisation>/<name>, "
                "or use `source: folder` or `source: gguf` in the suite."
            )
        raise UserError(f"model {model_id} at revision {revision}{told}") from error


def pinned(model_id: str) -> str:
    """The commit that a model's main branch is at on the hub; without a network that of the cached copy."""
    from huggingface_hub import model_info

    try:
        return str(model_info(model_id).sha)
    except Exception as error:  # as in `download`
        kept = cached_folder(model_id, "../refs")
        if kept is not None and (kept / "main").is_file():
            return (kept / "main").read_text(encoding="utf-8").strip()
        raise UserError(
            f"model {model_id}: the hub does not say which commit it is at: {first_line(error)}. Check the "
            "id, the network, and HF_TOKEN if the model is private; or give a folder, or ID@COMMIT"
        ) from error


def first_line(error: Exception) -> str:
    """The first line of another library's error, for a message of ours."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
