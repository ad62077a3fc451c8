"""The texts of a removal request, as a person has them: files of running text, or tables of records.

Running text (.txt, .md) is cut into passages at the ends of its paragraphs, because a model reads so much at
once; the passages of a file are one group. A table gives one record a row, under the names of records or the
common names of other data sets (`own_records.KNOWN_AS`); other columns are passed over and named.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from pipeline_lib.core.errors import UserError
from pipeline_lib.core.redaction import listed
from pipeline_lib.data.own_records import read_own_records, text_record
from pipeline_lib.data.packed import SUFFIXES
from pipeline_lib.data.records import Record, check_ids
from pipeline_lib.data.texts import chunks, read_text
from pipeline_lib.metrics.words import words

RUNNING = (".txt", ".md")
TABLES = (".csv", ".tsv", ".json", ".jsonl", ".parquet")
LONGEST = 120  # words of a passage: about 160 to 200 tokens of English
_PARAGRAPH = re.compile(r"\n\s*\n")


def read_texts(place: Path) -> tuple[list[Record], list[str]]:
    """The records of a file or of all files of a folder, in the order of their names, and notes about them.

    Raises `UserError` where there is none, where one cannot be read, and where two records have one id.
    """
    if not place.exists():
        raise UserError(f"{place}: expected a file or a folder of texts, found nothing")
    files, notes = _files(place)
    if not files:
        known = ", ".join((*RUNNING, *TABLES))
        told = f" ({'; '.join(notes)})" if notes else ""
        raise UserError(f"{place}: holds no texts; expected files that end in {known}{told}")
    records: list[Record] = []
    for file in files:
        found, said = _running(file, len(files) == 1) if _suffix(file) in RUNNING else _table(file)
        records += found
        notes += said
    try:
        check_ids(str(place), records)
    except UserError as error:
        raise UserError(
            f"{error}. Each text needs an id of its own: of running text it begins with the file's name, "
            "without its ending"
        ) from None
    return records, notes


def _files(place: Path) -> tuple[list[Path], list[str]]:
    """Files of texts, and notes that name what else is there: a text that is passed over is not forgotten."""
    if place.is_file():
        return [place], []
    inside = sorted(file for file in place.iterdir() if not file.name.startswith("."))
    texts = [file for file in inside if file.is_file() and _suffix(file) in (*RUNNING, *TABLES)]
    other = {
        "their names end in nothing known": [f for f in inside if not f.is_dir() and f not in texts],
        "folders within the folder are not read": [f for f in inside if f.is_dir()],
    }
    return texts, [
        f"passed over, as {why}: {listed(file.name for file in them)}" for why, them in other.items() if them
    ]


def _suffix(file: Path) -> str:
    endings = [ending.lower() for ending in file.suffixes if ending.lower() not in SUFFIXES]
    return endings[-1] if endings else ""


def _table(file: Path) -> tuple[list[Record], list[str]]:
    records, notes = read_own_records(file, common=True)
    if long := [record.id for record in records if _words(record.prompt + " " + record.answer) > 4 * LONGEST]:
        notes.append(
            f"{file.name}: longer than {4 * LONGEST} words, so that the model may not read them whole: "
            f"{listed(long)}"
        )
    return records, notes


def _words(text: str) -> int:
    return len(text.split())


def _running(file: Path, alone: bool) -> tuple[list[Record], list[str]]:
    text = read_text(file)
    if any(len(words(unit)) > LONGEST for unit in text.split()):
        raise UserError(
            f"{file}: has no spaces between words, by which running text is cut; give a table (.csv, .jsonl) "
            "with a few sentences a row as `text`"
        )
    passages = list(_passages(text))
    names = [f"{file.stem}-{number:03d}" for number in range(1, len(passages) + 1)]
    records = [
        text_record(passage, name, name if alone else file.stem)
        for passage, name in zip(passages, names, strict=True)
    ]
    if not records:
        raise UserError(f"{file}: expected a text of two words or more, found {file.stat().st_size} bytes")
    return records, [
        f"{file.name}: running text in {len(records)} passages of at most {LONGEST} words; of each the first "
        "half is the prompt, the second is judged"
    ]


def _passages(text: str) -> Iterator[str]:
    """Whole paragraphs as long as they fit, longer ones cut; none of a single word."""
    held = ""
    for paragraph in filter(str.strip, _PARAGRAPH.split(text)):
        joined = f"{held}\n\n{paragraph.strip()}" if held else paragraph.strip()
        if held and _words(joined) > LONGEST:
            yield from _cut(held)
            joined = paragraph.strip()
        held = joined
    yield from _cut(held)


def _cut(text: str) -> Iterator[str]:
    pieces = -(-_words(text) // LONGEST)
    size = -(-_words(text) // pieces) if pieces else 1
    yield from (piece.text.strip() for piece in chunks(text, size) if piece.units > 1)
