"""Plain text: cut into chunks of equal length, and documents of C4 (Raffel et al. 2020, arXiv 1910.10683).

A text is measured in units. With a tokenizer a unit is one of its tokens; without one it is a word,
everything between two white spaces, punctuation included. White space before a unit belongs to it, so that
units, and the chunks made of them, joined again give the text, character by character.

Traps: a chunk of n tokens of one tokenizer has more or fewer tokens of another, and may have one or two more
of the same one when it is tokenised alone (tokenizers that put a space before a text). Leave room for that
in `max_length`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline_lib.core.errors import UserError
from pipeline_lib.core.files import text_lines
from pipeline_lib.core.json_text import decoded, parse_json
from pipeline_lib.data.packed import unpacked
from pipeline_lib.data.records import Record

_WORD = re.compile(r"\S+")
DOCUMENT_FILES = ("*.jsonl", "*.json", "*.jsonl.gz", "*.json.gz")  # what a folder of documents may hold


@dataclass(frozen=True)
class Passage:
    """A stretch of a longer text, where it lies at characters `start` to `start + len(text)`.

    `ends[k]`: number of characters of the first k + 1 units; the last one is the length of `text`.
    """

    text: str
    start: int
    ends: tuple[int, ...]

    @property
    def end(self) -> int:
        return self.start + len(self.text)

    @property
    def units(self) -> int:
        return len(self.ends)

    def split(self, units: int) -> tuple[str, str]:
        """The first `units` units and the rest, neither of them empty."""
        if not 0 < units < self.units:
            raise ValueError(f"a passage of {self.units} units cannot be split after {units}")
        return self.text[: self.ends[units - 1]], self.text[self.ends[units - 1] :]

    def first(self, units: int) -> Passage:
        """At most the first `units` units."""
        kept = self.ends[:units]
        return Passage(self.text[: kept[-1]], self.start, kept)


def unit_ends(text: str, tokenizer: Any = None) -> list[int]:
    """For each unit of `text` the number of characters up to its end; the last one is `len(text)`.

    `tokenizer`: a fast tokenizer of transformers (see models/tokenizer.py); None counts words.
    """
    if tokenizer is None:
        ends = [match.end() for match in _WORD.finditer(text)]
    else:
        found = tokenizer(
            text,
            add_special_tokens=False,
            split_special_tokens=True,
            return_offsets_mapping=True,
            verbose=False,  # else a warning that a book is longer than the model's context
        )
        ends = [end for _, end in found["offset_mapping"]]
    if ends:
        ends[-1] = len(text)  # white space at the very end
    return ends


def chunks(text: str, size: int, tokenizer: Any = None) -> list[Passage]:
    """The whole text in chunks of `size` units, one after the other; the last one may be shorter.

    A character of several tokens is never cut: the whole of it goes to the chunk that its first token is in.
    """
    if size < 1:
        raise ValueError(f"a chunk needs at least one unit, found {size}")
    ends = unit_ends(text, tokenizer)
    found, start = [], 0
    for first in range(0, len(ends), size):
        # tokens that only finish a character of the chunk before have nothing left here
        if inside := [end - start for end in ends[first : first + size] if end > start]:
            found.append(Passage(text[start : start + inside[-1]], start, tuple(inside)))
            start += inside[-1]
    return found


def read_text(path: Path) -> str:
    """A file's text with line ends as \\n; raises `UserError` if it is missing or not plain text."""
    with unpacked(path, "plain text in UTF-8, maybe packed (.gz, .xz)") as handle:
        text = decoded(handle.read(), str(path))
    return text.replace("\r\n", "\n").replace("\r", "\n")


def read_documents(path: Path) -> Iterator[str]:
    """The field `text` of each JSON line of a file, or of the files of a folder in the order of their names.

    Packed files are unpacked as they are read, so that the first documents of a large file cost little.
    Raises `UserError` for a place without such files, and for a broken line, which it names.
    """
    files = document_files(path)
    if not files:
        raise UserError(f"{path}: holds no documents; expected {', '.join(DOCUMENT_FILES)}")
    for file in files:
        with unpacked(file, "JSON lines with a field `text`, plain or packed (.gz, .xz)") as handle:
            for number, line in enumerate(text_lines(handle, str(file)), start=1):
                if line.strip():
                    where = f"{file}, line {number}"
                    row = parse_json(line, where)
                    if not isinstance(row, dict) or not isinstance(row.get("text"), str):
                        raise UserError(
                            f"{where}: expected an object with a field `text`, found {line[:60]!r}"
                        )
                    yield row["text"]


def document_files(path: Path) -> list[Path]:
    """The files of documents in a folder, in the order of their names; any other path is itself the file."""
    inside = {file for pattern in DOCUMENT_FILES for file in path.glob(pattern)}
    return sorted(inside) if path.is_dir() else [path]


def document_records(
    texts: Iterator[str] | Sequence[str],
    n: int,
    prompt_units: int,
    max_units: int,
    tokenizer: Any = None,
    name: str = "c4",
) -> list[Record]:
    """The first `n` documents as running text: `prompt_units` units as prompt, the rest as answer.

    Each is cut to `max_units` units and is a group of its own. Documents that end within the prompt, or whose
    prompt or answer would be white space alone, are passed over; ids count them too. Raises `UserError` where
    there are too few.
    """
    if not 0 < prompt_units < max_units:
        raise UserError(
            f"documents of at most {max_units} units leave no answer after a prompt of {prompt_units}; make "
            "the prompt shorter or the documents longer"
        )
    records: list[Record] = []
    number = -1
    for number, text in enumerate(texts):
        whole = Passage(text, 0, tuple(unit_ends(text, tokenizer)))
        if whole.units <= prompt_units:
            continue
        prompt, answer = whole.first(max_units).split(prompt_units)
        if prompt.strip() and answer.strip():
            identifier = f"{name}-{number:05d}"
            records.append(Record(identifier, prompt, answer, identifier, form="text"))
        if len(records) == n:
            return records
    unit = "words" if tokenizer is None else "tokens"
    raise UserError(
        f"{name}: expected {n} documents of more than {prompt_units} {unit}, found {len(records)} among "
        f"{number + 1}. Ask for fewer, for a shorter prompt, or give more documents."
    )
