"""What is odd about the records of a task without being wrong: counted, said in the log and the manifest."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence

from pipeline_lib.data.records import Record


def folded(text: str) -> str:
    """A text without what readers pass over: case, width and other forms of its letters, amount of space."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def content(record: Record) -> tuple[str, str]:
    """By which two records are the same whatever their ids; a model that learned one knows the other."""
    return folded(record.prompt), folded(record.answer)


def doubts_of(splits: dict[str, list[Record]]) -> list[str]:
    """One line a kind and split, with its count and the first case; none for records without any oddity."""
    parts = {f"{name}_eval" for name in splits}
    return [
        f"{name}: {line}"
        for name, records in splits.items()
        if name not in parts  # all its records stand in the whole as well
        for line in (*_repeated(records), *_alike(records), *_distractors(records))
    ]


def _repeated(records: Sequence[Record]) -> Iterator[str]:
    seen: dict[tuple[str, str], str] = {}
    again = [(r.id, seen[content(r)]) for r in records if seen.setdefault(content(r), r.id) != r.id]
    if again:
        yield (
            f"{len(again)} of {len(records)} records repeat the prompt and answer of another id, the first "
            f"{again[0][0]!r} those of {again[0][1]!r}: they count twice"
        )


def _alike(records: Sequence[Record]) -> Iterator[str]:
    seen: dict[str, str] = {}
    alike = [(r.id, seen[folded(r.id)]) for r in records if seen.setdefault(folded(r.id), r.id) != r.id]
    if alike:
        yield (
            f"{len(alike)} ids differ from another one only in case, spaces or the form of letters, the "
            f"first {alike[0][0]!r} from {alike[0][1]!r}: they stay two records"
        )


def _distractors(records: Sequence[Record]) -> Iterator[str]:
    twice = [r.id for r in records if len(set(map(str.strip, r.distractors))) < len(r.distractors)]
    if twice:
        yield (
            f"{len(twice)} of {len(records)} records have the same distractor more than once, the first "
            f"{twice[0]!r}: it weighs as often in the truth ratio"
        )
    right = [r.id for r in records if _right(r) & set(map(folded, r.distractors))]
    if right:
        yield (
            f"{len(right)} of {len(records)} records have a distractor that differs from the right answer "
            f"only in case, spaces or the form of letters, the first {right[0]!r}"
        )


def _right(record: Record) -> set[str]:
    return {folded(text) for text in (record.answer, record.paraphrased_answer) if text}
