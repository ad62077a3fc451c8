"""How much of the text to be forgotten other records also hold: a model may know it from there.

The unit is a run of eight words: long enough that two texts seldom share one by chance, short enough that a
changed name or date does not hide a copied sentence. Lee et al. 2022 (arXiv 2107.06499) remove duplicates by
runs of 50 tokens, Brown et al. 2020 (arXiv 2005.14165, appendix C) find test data in training data by runs of
8 to 13 words.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pipeline_lib.core.errors import UserError
from pipeline_lib.core.redaction import listed
from pipeline_lib.data.records import Record

WORDS = 8  # of a run
_WORD = re.compile(r"\w+(?:['’]\w+)*")

Run = tuple[str, ...]


@dataclass(frozen=True)
class Overlap:
    """`share`: of the different runs of one set, the share that the other set also has.

    `runs`: the number of different runs. `records`: (id, share of its own runs) of every record with at least
    one shared run, the largest share first.
    """

    share: float
    runs: int
    records: list[tuple[str, float]]

    def described(self) -> dict[str, float | int]:
        """For the manifest; `records` is their number."""
        return {"share": round(self.share, 6), "runs": self.runs, "records": len(self.records)}


def measure_overlap(forget: Sequence[Record], other: Sequence[Record]) -> Overlap:
    """Share of the forget records' runs of eight words that also stand in `other`.

    Words are letters and digits; case and punctuation do not matter. For a question the runs of the answer
    count, for running text (form "text") those of the whole. An answer of fewer than eight words is one run:
    itself and the words of the prompt before it, up to eight in all; alone, a short answer such as a year
    would be found everywhere. In `other`, prompt and answer are searched as one text. Takes a second for
    4,000 records of 50 words.
    """
    runs_of = {record.id: set(_asked(record)) for record in forget}
    wanted: set[Run] = set().union(*runs_of.values())
    texts = (_words(record.prompt) + _words(record.answer) for record in other)
    shared = wanted.intersection(run for words in texts for run in _runs(words))
    touched = (
        (identifier, len(runs & shared) / len(runs)) for identifier, runs in runs_of.items() if runs & shared
    )
    return Overlap(
        len(shared) / len(wanted) if wanted else 0.0, len(wanted), sorted(touched, key=lambda row: -row[1])
    )


def check_overlap(found: Overlap, largest: float) -> None:
    """Raise `UserError` if more of the forget set stands in the retain set than the task allows."""
    if found.share <= largest:
        return
    records = listed([f"{name} ({share:.0%})" for name, share in found.records])
    raise UserError(
        f"forget and retain overlap: {found.share:.1%} of the forget set's runs of {WORDS} words are also "
        f"in the retain set, and `max_overlap` allows {largest:.1%}. No method can forget what the retain "
        f"set teaches. The records with most of them: {records}. Keep them in one of the sets, or "
        "raise the task's `max_overlap` and say so with the results."
    )


def _asked(record: Record) -> Iterator[Run]:
    prompt, answer = _words(record.prompt), _words(record.answer)
    if record.form == "text":
        return _runs(prompt + answer)
    return _runs(answer if len(answer) >= WORDS else (prompt + answer)[-WORDS:])


def _words(text: str) -> list[str]:
    return _WORD.findall(text.casefold())


def _runs(words: list[str]) -> Iterator[Run]:
    """Every run of eight words; a shorter text is one run."""
    if len(words) < WORDS:
        return iter([tuple(words)] if words else [])
    return zip(*(words[start:] for start in range(WORDS)), strict=False)
