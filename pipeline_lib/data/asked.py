"""Records asked in another way than they were learned: what a stranger tries who only asks.

A question keeps its id, group and answers, so that its scores stand beside those of the plain question.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pipeline_lib.core.errors import UserError
from pipeline_lib.core.locate import expand
from pipeline_lib.data.records import Record

SLOT = "{prompt}"


@dataclass(frozen=True, kw_only=True)
class Way:
    """One way of asking. What is empty, 0 or false changes nothing.

    `question`: a text that holds {prompt} once, in place of the question. `opening`: how the answer begins.
    `true_words`: so many words of the true answer are given as its beginning, and the rest is scored; one
    word at least is left. `hints`: so many other records of the same group, question and answer, stand before
    the question. `paraphrased`: the data's own paraphrase of the question is asked; a record without one is
    asked as it is.
    """

    question: str = SLOT
    opening: str = ""
    true_words: int = 0
    hints: int = 0
    paraphrased: bool = False

    def of(self, records: Sequence[Record]) -> list[Record]:
        """The records of a split, asked in this way; running text has no question and stays as it is."""
        return [record if record.form == "text" else self._one(record, records) for record in records]

    def _one(self, record: Record, records: Sequence[Record]) -> Record:
        prompt = record.prompt
        if self.paraphrased and record.paraphrased_prompt is not None:
            prompt = record.paraphrased_prompt
        prompt = self.question.replace(SLOT, prompt)
        opening, begun = self.opening, record
        if self.true_words:
            begun, words = _begun(record, self.true_words)
            opening = f"{opening} {words}".strip()
        told = [f"{other.prompt}\n{other.answer}" for other in _following(record, records)[: self.hints]]
        return replace(begun, prompt="\n\n".join([*told, prompt]), opening=opening)


def ways_of(settings: Mapping[str, Any]) -> list[Way]:
    """The ways of asking that the settings of a stage `ask` name: one for each phrasing."""
    phrasings = settings["questions"]
    if settings["questions_file"] is not None:
        phrasings = read_phrasings(settings["questions_file"])
    return [
        Way(
            question=phrasing,
            opening=settings["opening"] or "",
            true_words=settings["true_words"],
            hints=settings["hints"],
            paraphrased=settings["paraphrased"],
        )
        for phrasing in phrasings or [SLOT]
    ]


def read_phrasings(path: str) -> list[str]:
    """The lines of a text file, each a phrasing. `UserError` unless each holds {prompt} once."""
    place = expand(path)
    try:
        lines = place.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{place}: cannot be read as text ({type(error).__name__})") from None
    found = {number: line.strip() for number, line in enumerate(lines, start=1) if line.strip()}
    for number, line in found.items():
        if line.count(SLOT) != 1:
            raise UserError(
                f"{place}, line {number}: expected a phrasing that holds {SLOT} once, found {line[:80]!r}"
            )
    if not found:
        raise UserError(f"{place}: holds no phrasing; write one a line, with {SLOT} for the question")
    return list(found.values())


def _following(record: Record, records: Sequence[Record]) -> list[Record]:
    """The other records of its group: those after it, then those before it."""
    group = [other for other in records if other.group == record.group]
    place = [other.id for other in group].index(record.id)
    return [*group[place + 1 :], *group[:place]]


def _begun(record: Record, count: int) -> tuple[Record, str]:
    """The record without the first words of its answers, as many of each, and those of the true answer.

    Wrong answers of TOFU's form begin as the true one does. One that would become a right answer's rest stays
    whole.
    """
    given = min(count, len(record.answer.split()) - 1)
    words, answer = _cut(record.answer, given)
    paraphrase = None if record.paraphrased_answer is None else _cut(record.paraphrased_answer, given)[1]
    wrong = ((text, _cut(text, given)[1]) for text in record.distractors)
    rest = replace(
        record,
        answer=answer,
        paraphrased_answer=paraphrase,
        distractors=tuple(whole if cut in (answer, paraphrase) else cut for whole, cut in wrong),
    )
    return rest, words


def _cut(text: str, words: int) -> tuple[str, str]:
    """The first words of a text and the rest of it, which has one word at least."""
    begun = re.match(rf"(?:\s*\S+){{{min(words, len(text.split()) - 1)}}}", text)
    assert begun is not None
    return begun[0].strip(), text[begun.end() :].strip()
