"""Rows of PKU-SafeRLHF (Ji et al. 2024, arXiv 2406.15513; CC BY-NC 4.0): an unsafe answer and a safe one.

Two forms of rows are read, from JSON lines (.xz, as in the data set's first release) or another form of
table_files.py:
    the hub's   {"prompt", "response_0", "response_1", "is_response_0_safe", "is_response_1_safe", ...}
    pairs       {"prompt", "safer_response", "less_safe_response"}: one answer is safe, the other is not

`better_response_id` (which answer helps more) and `safer_response_id` (which of two unsafe ones is less so)
rank answers; the safety labels alone say whether an answer is unsafe, so the two are not read.

Traps: the same question with the same unsafe answer occurs with several safe ones; it counts once. Questions
that differ in a few words count as different here, so forget and unseen prompts can resemble each other.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline_lib.core.errors import UserError
from pipeline_lib.core.redaction import listed
from pipeline_lib.data.table_files import Row, read_table

HUB_FIELDS = ("response_0", "response_1", "is_response_0_safe", "is_response_1_safe")
PAIR_FIELDS = ("less_safe_response", "safer_response")

# Why a row is left out, in the words of errors and of the manifest.
BOTH_SAFE, BOTH_UNSAFE = "both answers safe", "both answers unsafe"
EMPTY, EQUAL = "an empty prompt or answer", "equal answers"
LONG, AGAIN = "too long", "an unsafe answer that stands there already"


@dataclass(frozen=True)
class Pair:
    """One question, asked in row `row` of the file (from 1), with an answer of either kind."""

    row: int
    prompt: str
    unsafe: str
    safe: str

    @property
    def group(self) -> str:
        """The question without its case and white space; rows that share it were asked together."""
        return " ".join(self.prompt.casefold().split())


@dataclass(frozen=True)
class Pairs:
    """The usable pairs of a file in its order, the number of its rows, and why others were left out."""

    pairs: list[Pair]
    rows: int
    left_out: Counter[str]

    def counted(self) -> str:
        """A text for people: rows, pairs, and what was left out."""
        reasons = ", ".join(f"{count} ({why})" for why, count in sorted(self.left_out.items()))
        return f"{self.rows} rows, {len(self.pairs)} pairs" + (f"; left out: {reasons}" if reasons else "")


def read_pairs(path: Path, max_words: int) -> Pairs:
    """Pairs of at most `max_words` words, counting the prompt and its longer answer.

    Rows with two safe or two unsafe answers, an empty text, equal answers, too many words or a repeated
    unsafe answer are left out and counted. Raises `UserError` for what is not a row of this data set.
    """
    pairs: list[Pair] = []
    left_out: Counter[str] = Counter()
    seen: set[tuple[str, str]] = set()
    number = 0
    for number, row in enumerate(read_table(path), start=1):
        found = _pair(_typed(row), number, f"{path}, row {number}")
        if isinstance(found, str):
            left_out[found] += 1
            continue
        words = len(found.prompt.split()) + max(len(found.unsafe.split()), len(found.safe.split()))
        key = (found.group, " ".join(found.unsafe.split()))
        if words > max_words:
            left_out[LONG] += 1
        elif key in seen:
            left_out[AGAIN] += 1
        else:
            seen.add(key)
            pairs.append(found)
    return Pairs(pairs, number, left_out)


def _typed(row: Row) -> dict[str, Any]:
    """The row with its labels as bool; a table without types has them as words."""
    if not row.cells:
        return row.fields
    words = {"true": True, "false": False}
    return {
        name: words.get(cell.lower(), cell) if name in HUB_FIELDS[2:] else cell
        for name, cell in row.fields.items()
    }


def _pair(row: dict[str, Any], number: int, where: str) -> Pair | str:
    """The pair of a row, or the reason why there is none."""
    if all(name in row for name in HUB_FIELDS):
        safe = [_label(row, name, where) for name in HUB_FIELDS[2:]]
        answers = [_text(row, name, where) for name in HUB_FIELDS[:2]]
    elif all(name in row for name in PAIR_FIELDS):
        safe = [False, True]
        answers = [_text(row, name, where) for name in PAIR_FIELDS]
    else:
        raise UserError(
            f"{where}: expected `prompt` with {', '.join(HUB_FIELDS)} (the hub's rows) or with "
            f"{' and '.join(PAIR_FIELDS)}; found {listed(row, 20) or 'nothing'}"
        )
    prompt = _text(row, "prompt", where)
    if safe[0] == safe[1]:
        return BOTH_SAFE if safe[0] else BOTH_UNSAFE
    if not all(text.strip() for text in (prompt, *answers)):
        return EMPTY
    if answers[0].split() == answers[1].split():
        return EQUAL
    unsafe = safe.index(False)
    return Pair(number, prompt.strip(), answers[unsafe].strip(), answers[1 - unsafe].strip())


def _text(row: dict[str, Any], name: str, where: str) -> str:
    if not isinstance(row.get(name), str):
        raise UserError(f"{where}: `{name}` must be a text, found {row.get(name)!r}")
    return row[name]


def _label(row: dict[str, Any], name: str, where: str) -> bool:
    if not isinstance(row[name], bool):
        raise UserError(f"{where}: `{name}` must be true or false, found {row[name]!r}")
    return row[name]
