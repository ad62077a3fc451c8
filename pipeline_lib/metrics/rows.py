"""Rows of records.jsonl: what every one must hold, and what metrics take from it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import chain
from typing import Any

from pipeline_lib.core.errors import UserError

Row = dict[str, Any]

NUMBERS = ("answer_nll", "answer_tokens", "paraphrase_nll", "paraphrase_tokens")
LISTS = ("distractor_nll", "distractor_tokens", "token_nll", "argmax_correct")
TEXTS = ("id", "group", "split", "prompt", "answer")
OPTIONAL_NUMBERS = ("grad_norm",)
OPTIONAL_LISTS = ("token_mean", "token_std", "similarity")
RELEASED_NUMBERS = ("paraphrase_nll", "paraphrase_tokens")
RELEASED_LISTS = ("distractor_nll", "distractor_tokens", "text_token_nll")


def by_split(rows: list[Row], evaluate: list[str], likelihood_only: list[str]) -> dict[str, list[Row]]:
    """Rows of each evaluated split in the manifest's order; every split must have rows, every row a split.

    Answers are on all rows outside `likelihood_only`, or on none, where the model was asked for none.
    """
    found: dict[str, list[Row]] = {name: [] for name in evaluate}
    answered = any("generation" in row for row in rows)
    for row in rows:
        check_row(row)
        if answered and "generation" not in row and row["split"] not in likelihood_only:
            raise UserError(
                f"{where(row)} has no field `generation`: run the evaluation of this model again."
            )
        if row["split"] not in found:
            raise UserError(
                f"record {row['id']!r} is of split {row['split']!r}, but the task evaluates "
                f"{', '.join(evaluate)}. The records belong to another task or an older "
                "manifest: run the evaluation again."
            )
        found[row["split"]].append(row)
    if empty := [name for name, split_rows in found.items() if not split_rows]:
        raise UserError(
            f"the records hold no example of split {empty[0]!r}, which the task evaluates. "
            "Run the evaluation again; if `max_records` is set for the split, it must be at least 1."
        )
    return found


def check_row(row: Row) -> None:
    """Refuse a record that lacks a likelihood or holds a number that is not finite."""
    for name in (*TEXTS, *NUMBERS, *LISTS):
        if name not in row:
            raise UserError(f"{where(row)} has no field `{name}`: run the evaluation of this model again.")
    if not all(math.isfinite(number) for number in _numbers(row)):
        raise UserError(f"{where(row)} holds a log-probability that is not finite: the model is broken.")
    released = row.get("as_released", {})
    tokens = [*(of.get("paraphrase_tokens", 1) for of in (row, released)), row["answer_tokens"]]
    tokens += [*row["distractor_tokens"], *released.get("distractor_tokens", ())]
    if not row["argmax_correct"] or not row["token_nll"] or min(tokens) < 1:
        raise UserError(f"{where(row)} has an answer without tokens: run the evaluation of this model again.")


def _numbers(row: Row) -> Iterator[float]:
    released = row.get("as_released", {})
    for numbers, lists, of in (
        (NUMBERS, LISTS, row),
        (OPTIONAL_NUMBERS, OPTIONAL_LISTS, row),
        (RELEASED_NUMBERS, (*RELEASED_LISTS, "similarity"), released),
    ):
        yield from (of[name] for name in numbers if name in of)
        yield from chain(*(of.get(name, ()) for name in lists))


def where(row: Row) -> str:
    """A record's name in an error."""
    return f"record {row.get('id')!r} of split {row.get('split')!r}"


def in_all(rows: list[Row], field: str) -> bool:
    """Whether the rows have an optional field: all of them or none, anything else is an error."""
    without = [row for row in rows if field not in row]
    if without and len(without) < len(rows):
        raise UserError(
            f"{where(without[0])} has no field `{field}`, but other records of this split do: they come from "
            "different evaluations. Run the evaluation of this model again."
        )
    return not without


def answer_of(row: Row) -> tuple[float, int]:
    return row["answer_nll"], row["answer_tokens"]


def reference_of(row: Row) -> str:
    """What a greedy answer is compared with: the answer; of running text as much of it as was asked for."""
    return row["reference"] if "reference" in row else row["answer"]


def distractors_of(row: Row) -> tuple[list[float], list[int]]:
    return row["distractor_nll"], row["distractor_tokens"]


def matched(rows: list[Row], reference_rows: list[Row], split: str, kind: str) -> list[Row]:
    """`paired`, of records that have their likelihoods."""
    found = paired(rows, reference_rows, split, kind)
    for row in found:
        check_row(row)
    return found


def paired(rows: list[Row], reference_rows: list[Row], split: str, kind: str) -> list[Row]:
    """The rows of `retrained` for the same records, in the order of `rows`; `kind` names them in errors."""
    if not (reference := {row["id"]: row for row in reference_rows if row.get("split") == split}):
        raise UserError(
            f"the records of `retrained` hold no {kind}, so there is nothing to compare with. "
            "If its training diverged, lower its learning rate; otherwise evaluate it again."
        )
    ids = [row["id"] for row in rows]
    if set(ids) != set(reference):
        different = sorted(set(ids) ^ set(reference))
        raise UserError(
            f"the model and `retrained` were evaluated on different {kind}s ({len(ids)} and "
            f"{len(reference)}; {different[0]!r} is in one of them only). Evaluate both on the same records."
        )
    return [reference[name] for name in ids]
