"""Prompts that toxic text may follow: RealToxicityPrompts, a file of your own, or a task's own prompts.

RealToxicityPrompts (Gehman et al. 2020, arXiv 2009.11462): first halves of 100k sentences from the web, with
the scores that the Perspective API gave to each half. Three forms of rows are read, from JSON lines or
another form of table_files.py:
    the hub's     {"filename", "begin", "challenging", "prompt": {"text", "toxicity", ...}, ...}
    flat          {"prompt": text, "prompt_scores": {"toxicity", ...} or null, "challenging", ...}
    own           {"prompt": text} and, if you like, "id" and "group"; other fields are passed over
Their fields show what the prompts are, which decides which classifiers may judge the answers
(engine/classifiers/validation.py): pairs of a safer and a less safe answer belong to questions that ask for
harm.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field

from pipeline_lib.core.blocks import Block, HubId, Name, PathText, Revision
from pipeline_lib.core.errors import UserError
from pipeline_lib.core.files import read_object
from pipeline_lib.core.locate import expand, hub_file
from pipeline_lib.data.table_files import FORMS, read_table
from pipeline_lib.data.task_folder import load_splits

T = TypeVar("T")

FILE = "prompts.jsonl"  # in the hub's repository
LOCAL = Path("realtoxicityprompts") / FILE  # below $PIPELINE_DATA; read in place of the hub's
SCORES = ("toxicity", "severe_toxicity")  # of the Perspective API
PAIRS = ("safer_response", "is_response_0_safe")  # fields of PKU-SafeRLHF, in our copy and on the hub
KIND_OF_TASK = {"detox": "safe_rlhf", "manners": "manners"}  # source of a task -> what its prompts are


class HubPrompts(Block):
    """RealToxicityPrompts from the hub."""

    source: Literal["hub"]
    id: HubId = "allenai/real-toxicity-prompts"
    revision: Revision


class FilePrompts(Block):
    """Prompts in a file of rows with `prompt`: JSON lines, CSV, Parquet. `$VARIABLES` are expanded."""

    source: Literal["file"]
    path: PathText


class TaskPrompts(Block):
    """The prompts of a split of the run's own task, asked in the model's prompt format."""

    source: Literal["task"]
    split: Name = "unseen"


Prompts = Annotated[HubPrompts | FilePrompts | TaskPrompts, Field(discriminator="source")]


@dataclass(frozen=True)
class ToxicityPrompt:
    """`group`: the document that a prompt is from, where known; `toxicity`: the prompt's own score, 0 to
    1."""

    id: str
    prompt: str
    group: str
    toxicity: float | None = None
    challenging: bool = False


@dataclass(frozen=True)
class PromptSet:
    """`kind`: "realtoxicityprompts", "safe_rlhf", "manners" or "other"; `origin`: where they are from."""

    prompts: list[ToxicityPrompt]
    kind: str
    origin: str


def load_toxicity_prompts(settings: HubPrompts | FilePrompts, n_prompts: int) -> PromptSet:
    """At most `n_prompts` prompts, spread evenly over the file, in its order.

    $PIPELINE_DATA/realtoxicityprompts/prompts.jsonl stands in for the hub's RealToxicityPrompts.
    """
    rows, path, origin = read_prompt_rows(settings)
    prompts = [_prompt(row, f"{path}, prompt {i}", i) for i, row in enumerate(rows, start=1)]
    (most, count), *_ = Counter(prompt.id for prompt in prompts).most_common(1)
    if count > 1:
        raise UserError(f"{path}: two prompts have the id {most!r}")
    return PromptSet(spread(prompts, n_prompts), kind_of_rows(rows), origin)


def read_prompt_rows(settings: HubPrompts | FilePrompts) -> tuple[list[dict[str, Any]], Path, str]:
    """All rows of the file that these settings name, its path, and a name for the place."""
    if settings.source == "file":
        path, origin = expand(settings.path), settings.path
        if not path.is_file():
            raise UserError(f"prompts {origin}: expected a file at {path}, found none")
    elif local := stand_in(settings.id):
        path, origin = local, f"$PIPELINE_DATA/{LOCAL.as_posix()}"
    else:
        path = hub_file(settings.id, settings.revision, FILE)
        origin = f"{settings.id}@{settings.revision}"
    rows = [row.fields for row in read_table(path)]
    if not rows:
        raise UserError(f"{path}: holds no prompt; expected {FORMS}")
    return rows, path, origin


def load_task_prompts(data_dir: Path, split: str, n_prompts: int) -> PromptSet:
    """At most `n_prompts` prompts of a split of a prepared task, spread evenly over it, in its order.

    Records of running text are refused: the beginning of a document asks nothing.
    """
    records = load_splits(data_dir, [split])[split]
    if texts := [record.id for record in records if record.form == "text"]:
        raise UserError(
            f"toxicity.prompts: {len(texts)} of {len(records)} records of the split {split!r} are running "
            f"text (the first: {texts[0]!r}), which asks nothing. Choose a split of questions."
        )
    prompts = [ToxicityPrompt(record.id, record.prompt, record.group) for record in records]

    kind = KIND_OF_TASK.get(read_object(data_dir / "manifest.json", "source")["source"], "other")
    return PromptSet(spread(prompts, n_prompts), kind, f"split {split} of {data_dir}")


def stand_in(hub: str) -> Path | None:
    """The file under $PIPELINE_DATA that is read in place of the hub's; None where there is none."""
    local = Path(os.environ.get("PIPELINE_DATA", "")) / LOCAL
    there = os.environ.get("PIPELINE_DATA") and hub.endswith("/real-toxicity-prompts") and local.is_file()
    return local if there else None


def _prompt(row: dict[str, Any], where: str, number: int) -> ToxicityPrompt:
    found = row.get("prompt")
    text, scores = (
        (found.get("text"), found) if isinstance(found, dict) else (found, row.get("prompt_scores") or {})
    )
    if not isinstance(text, str) or not text.strip():
        raise UserError(
            f"{where}: `prompt` must be a non-empty text (or an object with `text`), found {found!r}"
        )
    # The hub's rows name the document and the place in it; in other rows each prompt is its own document.
    place = f"{row['filename']}:{row.get('begin')}" if "filename" in row else f"prompt-{number:06d}"
    identifier = str(row.get("id", place))
    return ToxicityPrompt(
        id=identifier,
        prompt=text,
        group=str(row.get("group", row.get("filename", identifier))),
        toxicity=scores.get("toxicity"),
        challenging=bool(row.get("challenging", False)),
    )


def kind_of_rows(rows: Sequence[dict[str, Any]]) -> str:
    """What prompts are, seen from the fields of their first row: see `PromptSet`."""
    first = rows[0]
    if any(field in first for field in PAIRS):
        return "safe_rlhf"
    prompt = first.get("prompt")
    scores = prompt if isinstance(prompt, dict) else first.get("prompt_scores") or {}
    return "realtoxicityprompts" if all(name in scores for name in SCORES) else "other"


def spread(prompts: list[T], limit: int) -> list[T]:
    """At most `limit` of them, evenly over the list, in its order."""
    if limit < 1:
        raise UserError(f"n_prompts must be at least 1, found {limit}")
    n = min(limit, len(prompts))
    return [prompts[(2 * k + 1) * len(prompts) // (2 * n)] for k in range(n)]
