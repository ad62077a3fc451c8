"""Checked fields of records.jsonl for the export, and the form of a metric's entry."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from pipeline_lib.core.errors import UserError
from pipeline_lib.peers import checks

Row = dict[str, Any]
Entry = dict[str, Any]


TEXTS = ("id", "prompt", "answer")
# Within each tuple the lists have one length: wrong answers, tokens of the true answer.
LISTS = (
    ("distractor_nll", "distractor_tokens"),
    ("token_nll", "argmax_correct", "token_mean", "token_std"),
)


def by_split(rows: list[Row]) -> dict[str, list[Row]]:
    """The rows of each split, in the file's order; every field that is there has the right form."""
    splits: dict[str, list[Row]] = {}
    for i, row in enumerate(rows, start=1):
        if not isinstance(row.get("split"), str):
            raise UserError(f"record {i} has no field `split`: expected the records.jsonl of a run")
        _check(row)
        splits.setdefault(row["split"], []).append(row)
    return splits


def _check(row: Row) -> None:
    where = f"record {row.get('id')!r} of split {row['split']!r}"
    for name in (*TEXTS, *(["generation"] if "generation" in row else [])):
        if not isinstance(field(row, name), str):
            raise UserError(f"{where}, {name}: expected a text, found {row[name]!r}")
    for names in LISTS:
        lengths = {name: len(checks.numbers(row[name], f"{where}, {name}")) for name in names if name in row}
        if len(set(lengths.values())) > 1:
            raise UserError(
                f"{where}: expected lists of one length, found {lengths}. Evaluate the run again."
            )


def field(row: Row, name: str) -> Any:
    """A field that an evaluated row must have."""
    if name not in row:
        raise UserError(
            f"record {row.get('id')!r} of split {row['split']!r} has no field `{name}`: evaluate the run "
            "again"
        )
    return row[name]


def mean_loss(row: Row, kind: str) -> float:
    """Mean NLL per token, in nats, of the row's "answer" or "paraphrase" (with its end token)."""
    return _per_token(row, f"{kind}_nll", field(row, f"{kind}_nll"), field(row, f"{kind}_tokens"))


def wrong_losses(row: Row) -> list[float]:
    """Mean NLL per token of each wrong answer."""
    pairs = zip(field(row, "distractor_nll"), field(row, "distractor_tokens"), strict=True)
    return [_per_token(row, "distractor_nll", nll, tokens) for nll, tokens in pairs]


def _per_token(row: Row, name: str, nll: Any, tokens: Any) -> float:
    where = f"record {row.get('id')!r} of split {row['split']!r}, {name}"
    return checks.loss(checks.number(nll, where) / checks.number(tokens, f"{where}, tokens", 1), where)


def entry(rows: list[Row], value: Callable[[Row], Entry], key: str) -> Entry:
    """A metric in OpenUnlearning's form: every row's values, and the mean of `key` (None left out)."""
    by_index = {str(i): value(row) for i, row in enumerate(rows)}
    found = [np.mean(values[key]) for values in by_index.values() if values[key] is not None]
    return {"agg_value": float(np.mean(found)) if found else None, "value_by_index": by_index}
