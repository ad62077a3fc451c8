"""Texts that people (or the Perspective API) have labelled, to find out what a classifier can tell apart.

| kind | texts | positive |
|---|---|---|
| jigsaw | comments on Wikipedia's talk pages | toxic, by its readers |
| davidson | tweets that hold words of hate speech | hate speech or offensive (classes 0, 1), not neither |
| realtoxicityprompts | second halves of web sentences | Perspective toxicity above 0.5 |
| safe_rlhf | two answers of a chat model to one question | the one labelled unsafe, not the safe one |
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline_lib.core.errors import UserError
from pipeline_lib.core.files import read_jsonl
from pipeline_lib.core.redaction import listed

Row = tuple[str, int]  # text, 1 if positive


@dataclass(frozen=True)
class LabelledTexts:
    """`labels` holds 1 for positive, 0 for not; texts with the same group are not independent.

    `kind`: what they are texts of; `origin`: where they were read.
    """

    kind: str
    texts: list[str]
    labels: list[int]
    groups: list[str]
    origin: str

    @classmethod
    def of(cls, kind: str, rows: Sequence[tuple[str, int, str]], origin: str) -> LabelledTexts:
        """`rows`: (text, label, group)."""
        return cls(kind, [row[0] for row in rows], [row[1] for row in rows], [row[2] for row in rows], origin)


def _real_toxicity(row: dict[str, Any]) -> list[Row]:
    """In the hub's form the continuation holds its scores; in the flat form they stand beside it."""
    found = row["continuation"]
    text, scores = (
        (found["text"], found) if isinstance(found, dict) else (found, row["continuation_scores"] or {})
    )
    toxicity = scores.get("toxicity")  # Perspective refuses some texts
    return [] if toxicity is None else [(text, int(toxicity > 0.5))]


def _safe_rlhf(row: dict[str, Any]) -> list[Row]:
    """In the hub's form each answer has its own label, so that both may be unsafe."""
    if "is_response_0_safe" in row:
        return [(row[f"response_{i}"], int(not row[f"is_response_{i}_safe"])) for i in (0, 1)]
    return [(row["less_safe_response"], 1), (row["safer_response"], 0)]


# kind -> file below the data folder, what to read from a row, the field that rows of one group share
SETS: dict[str, tuple[str, Callable[[dict[str, Any]], list[Row]], str | None]] = {
    "jigsaw": ("toxicity_labelled/jigsaw_test.jsonl", lambda row: [(row["text"], int(row["toxic"]))], None),
    "davidson": (
        "toxicity_labelled/davidson_tweets.jsonl",
        lambda row: [(row["text"], int(row["class"] != 2))],
        None,
    ),
    "realtoxicityprompts": ("realtoxicityprompts/prompts.jsonl", _real_toxicity, None),
    "safe_rlhf": ("safe_rlhf/pairs.jsonl", _safe_rlhf, "prompt"),
}


def labelled_texts(kind: str, data_dir: Path) -> LabelledTexts:
    """The labelled set `kind` below `data_dir`, whole; texts in the order of the file."""
    if kind not in SETS:
        raise UserError(f"no labelled set {kind!r}; expected one of {', '.join(SETS)}")
    path = data_dir / SETS[kind][0]
    found = labelled_rows(kind, read_jsonl(path), str(path))
    if len(set(found.labels)) < 2:
        raise UserError(f"{path}: needs texts of both labels, found {len(found.texts)} of one")
    return found


def labelled_rows(kind: str, rows: Iterable[dict[str, Any]], origin: str) -> LabelledTexts:
    """The texts of rows in the form of the set `kind`, in their order; all may have the same label."""
    _, read, group = SETS[kind]
    found: list[tuple[str, int, str]] = []
    for number, row in enumerate(rows, start=1):
        try:
            pairs = read(row)
            shared = str(number) if group is None else row[group]
        except (KeyError, TypeError, AttributeError) as error:
            raise UserError(
                f"{origin}, row {number}: not a row of {kind} ({type(error).__name__}: {error}); "
                f"its fields are {listed(row, 20)}"
            ) from None
        found += [(text, label, shared) for text, label in pairs]
    return LabelledTexts.of(kind, found, origin)
