"""What is odd but not wrong in the records of a task: counted, and told in the log and the manifest."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from pipeline_lib.data.records import Record


def folded(text: str) -> str:
    """A text without what readers overlook: case, width and other forms of its letters, amount of space."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def content(record: Record) -> tuple[str, str]:
    """What makes two records the same whatever their ids; a model that learned one knows the other."""
    return folded(record.prompt), folded(record.answer)


def doubts_of(splits: dict[str, list[Record]]) -> list[str]:
    """One line for each kind of oddity and split, with its count and the first case."""
    parts = {f"{name}_eval" for name in splits}
    return [
        f"{name}: {line}"
        for name, records in splits.items()
        if name not in parts  # all its records are in the whole split as well
        for line in (*_repeated(records), *_distractors(records))
    ]


def _repeated(records: Sequence[Record]) -> Iterator[str]:
    if again := _pairs_of_ids(records, content):
        yield (
            f"{len(again)} of {len(records)} records repeat the prompt and answer of another id, the first "
            f"{again[0][0]!r} those of {again[0][1]!r}: they count twice"
        )
    if alike := _pairs_of_ids(records, lambda record: folded(record.id)):
        yield (
            f"{len(alike)} ids differ from another one only in case, spaces or the form of letters, the "
            f"first {alike[0][0]!r} from {alike[0][1]!r}: they stay two records"
        )


def _pairs_of_ids(records: Sequence[Record], key: Callable[[Record], Any]) -> list[tuple[str, str]]:
    """(id of a record, id of the first record with the same key), where the two differ."""
    first: dict[Any, str] = {}
    return [(r.id, first[key(r)]) for r in records if first.setdefault(key(r), r.id) != r.id]


def _distractors(records: Sequence[Record]) -> Iterator[str]:
    if twice := [r.id for r in records if len(set(map(str.strip, r.distractors))) < len(r.distractors)]:
        yield (
            f"{len(twice)} of {len(records)} records have the same distractor more than once, the first "
            f"{twice[0]!r}: it weighs as often in the truth ratio"
        )
    if right := [
        r.id
        for r in records
        if {folded(r.answer), folded(r.paraphrased_answer or r.answer)} & set(map(folded, r.distractors))
    ]:
        yield (
            f"{len(right)} of {len(records)} records have a distractor that differs from the right answer "
            f"only in case, spaces or the form of letters, the first {right[0]!r}"
        )
