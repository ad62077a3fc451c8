"""Whether the hub will serve the models and data of a suite, asked before any job starts.

This reads only the hub's answers about repositories and downloads nothing. It does not ask about what is
already on this machine (the hub's cache, $PIPELINE_MODELS, $PIPELINE_DATA).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

from pipeline_lib.benchmarks.data import local_splits
from pipeline_lib.benchmarks.definitions import definition
from pipeline_lib.benchmarks.tasks import TASKS
from pipeline_lib.core.blocks import Block, blocks_in
from pipeline_lib.core.errors import UserError
from pipeline_lib.data.toxicity_prompts import HubPrompts
from pipeline_lib.models.hub import cached_folder, local_copy

if TYPE_CHECKING:
    from pipeline_lib.study.suite import Suite

TIMEOUT = 5.0  # seconds for one answer of the hub

# Data sets, and the folder below $PIPELINE_DATA that stands in for each.
STAND_INS = {
    "locuslab/TOFU": "tofu",
    "allenai/c4": "c4",
    "PKU-Alignment/PKU-SafeRLHF": "safe_rlhf",
    "allenai/real-toxicity-prompts": "realtoxicityprompts",
}


@dataclass(frozen=True)
class Repository:
    """One repository of the hub at a pinned revision. `kind`: "model" or "dataset"."""

    kind: str
    id: str
    revision: str

    @property
    def name(self) -> str:
        return f"{'data set' if self.kind == 'dataset' else 'model'} {self.id}"


def check_access(suite: Suite) -> list[str]:
    """Lines to show: licences that are missing or limit the use, and what could not be checked.

    Raises one `UserError` for all repositories that do not exist or are not open to this account, with the
    page where to ask for access. A missing network is no fault: a line says what was not checked.
    """
    wanted = [repository for repository in repositories(suite) if not at_hand(repository)]
    lines: list[str] = []
    faults: list[str] = []
    unknown: list[Repository] = []
    for number, repository in enumerate(wanted):
        try:
            fault, found = _ask(repository)
        except _NoAnswer as error:
            unknown.append(repository)
            if error.network:  # the next one would time out too
                unknown += wanted[number + 1 :]
                break
        else:
            faults += [fault] if fault else []
            lines += found
    if faults:
        raise UserError("not everything that this suite needs is available:\n  " + "\n  ".join(faults))
    if unknown:
        names = ", ".join(repository.name for repository in unknown)
        lines.append(f"The hub does not answer, so access and licences are not checked for: {names}.")
    return lines


def repositories(suite: Suite) -> list[Repository]:
    """Every repository that the suite names: models, tokenizers, encoders, classifiers and data."""
    blocks: list[Block] = [
        *suite.models.values(),
        *suite.tasks.values(),
        *map(suite.evaluation_of, suite.tasks),
    ]
    return list(dict.fromkeys(found for block in blocks for found in _named(block)))


def _named(block: Block) -> Iterator[Repository]:
    fields, revision = dict(block), getattr(block, "revision", None)
    elsewhere = fields.get("folder") is not None or fields.get("path") is not None
    if revision is not None and not elsewhere:
        if fields.get("hub") is not None:
            yield Repository("dataset", fields["hub"], revision)
        elif fields.get("id") is not None:
            yield Repository("dataset" if isinstance(block, HubPrompts) else "model", fields["id"], revision)
    if "mmlu_shots" in fields and not elsewhere:
        shared = os.environ.get("PIPELINE_DATA")
        for task in (TASKS[name] for name in fields["tasks"]):
            if not (shared and any((Path(shared) / file).is_file() for file in task.local)):
                yield Repository("dataset", *task.hub[:2])
    for name, commit in (fields.get("lm_eval") or {}).items():
        if commit is not None and not local_splits(name, fields["folder"]):
            yield Repository("dataset", definition(name)["dataset_path"], commit)
    for _, value in blocks_in(block):
        yield from _named(value)


def at_hand(repository: Repository) -> bool:
    """Whether a job would find it on this machine."""
    if cached_folder(repository.id, repository.revision, f"{repository.kind}s") is not None:
        return True
    if repository.kind == "model":
        return local_copy(repository.id) is not None
    shared, folder = os.environ.get("PIPELINE_DATA"), STAND_INS.get(repository.id)
    return bool(shared and folder and (Path(shared) / folder).is_dir())


@dataclass
class _NoAnswer(Exception):
    """The hub did not say. `network`: it could not be reached at all."""

    network: bool


def _ask(repository: Repository) -> tuple[str | None, list[str]]:
    """(what is wrong, lines about its licence); raises `_NoAnswer`."""
    from huggingface_hub import HfApi, constants, get_hf_file_metadata, hf_hub_url
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    prefix = "datasets/" if repository.kind == "dataset" else ""
    page = f"{_without_login(constants.ENDPOINT)}/{prefix}{repository.id}"
    denied = (
        f"{repository.name}: access is denied, its owner asks readers to accept terms. Ask for access on "
        f"{page}, then log in on this machine as the account that has it: `hf auth login`."
    )
    try:
        info: Any = HfApi().repo_info(
            repository.id, repo_type=repository.kind, revision=repository.revision, timeout=TIMEOUT
        )
        if info.gated and info.siblings:  # everyone may list its files, not everyone may read them
            url = hf_hub_url(
                repository.id,
                info.siblings[0].rfilename,
                repo_type=repository.kind,
                revision=repository.revision,
            )
            get_hf_file_metadata(url, timeout=TIMEOUT)
    except RevisionNotFoundError:
        return (
            f"{repository.name}: the hub knows no revision {repository.revision}. Copy one from {page}, "
            "under History.",
            [],
        )
    except GatedRepoError:
        return denied, []
    except RepositoryNotFoundError:
        return (
            f"{repository.name}: the hub knows no repository of this name. Check the id; if it is private, "
            "log in with `hf auth login`.",
            [],
        )
    except HfHubHTTPError as error:
        if error.response is not None and error.response.status_code in (401, 403):
            return denied, []
        raise _NoAnswer(network=False) from None
    except Exception:  # of the network library, or of a hub that is switched off
        raise _NoAnswer(network=True) from None
    return None, _licence_lines(repository, info)


def _licence_lines(repository: Repository, info: Any) -> list[str]:
    card = info.card_data or {}
    tags = [tag.partition(":")[2] for tag in info.tags or [] if tag.startswith("license:")]
    named = card.get("license_name") if tags[:1] in ([], ["other"]) else None
    found = named or card.get("license") or ", ".join(tags)
    licence = ", ".join(found) if isinstance(found, list) else str(found or "")
    if not licence or licence == "unknown":
        return [f"{repository.name}: no licence stated. Ask its owner how the results may be used."]
    words = set(licence.lower().replace(",", " ").replace("-", " ").replace("_", " ").split())
    if "nc" in words or "noncommercial" in words or {"non", "commercial"} <= words:
        return [f"{repository.name}: licence {licence}, not for commercial use."]
    return []


def _without_login(endpoint: str) -> str:
    """The hub's address without the name and password that an address may hold."""
    parts = urlsplit(endpoint)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2])).rstrip("/")
