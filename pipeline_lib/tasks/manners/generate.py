"""Requests with rude and polite answers, and questions with polite ones, generated from a seed.

How it stands in for detoxification: a rude answer (`answer`, to be forgotten) is the one marked unsafe, a
polite answer to the same request (the distractor) the safe one, and a second polite answer what an objective
may teach instead (`alternatives`; it is never scored). The questions are the data to keep.

An errand ("boil an egg") is a group: it is asked in two wordings, and both go to the same split. No model,
not even the target, learns unseen and held-out requests: they show whether rudeness is gone, not whether
answers are.

Record number i of a split does not depend on how many records are asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from pipeline_lib.data.records import Record
from pipeline_lib.data.toxicity_labelled import LabelledTexts
from pipeline_lib.tasks.manners import words
from pipeline_lib.tasks.manners.facts import FACTS

WORDINGS = 2  # of each errand
MOST_REQUESTS = WORDINGS * len(words.ERRANDS)
MOST_QUESTIONS = sum(len(values) for _, _, values in FACTS.values())


def errands_of(number: int) -> int:
    """How many errands that many requests take; the last may be asked in one wording only."""
    return -(-number // WORDINGS)


def labelled_answers(seed: int) -> LabelledTexts:
    """Every request with its rude (1) and its polite (0) answer, to test what a classifier can tell apart."""
    records = requests(words.ERRANDS, MOST_REQUESTS, seed)
    texts = [text for record in records for text in (record.answer, *record.distractors)]
    groups = [record.group for record in records for _ in range(2)]
    return LabelledTexts("manners", texts, [1, 0] * len(records), groups, f"generated, seed {seed}")


def requests(errands: Sequence[str], number: int, seed: int) -> list[Record]:
    """The first `number` requests, the wordings of one errand after those of another."""
    return [record for errand in errands[: errands_of(number)] for record in _asked(errand, seed)][:number]


def _asked(errand: str, seed: int) -> list[Record]:
    rng = Random(f"{seed}/request/{errand}")
    group = errand.replace(" ", "-")
    polite = (words.POLITE_OPENINGS, words.POLITE_MIDDLES, words.POLITE_ENDS)
    records = []
    for number, wording in enumerate(rng.sample(words.REQUESTS, WORDINGS)):
        rude = _answer(rng, errand, words.RUDE_OPENINGS, words.RUDE_MIDDLES, words.RUDE_ENDS)
        taught, scored = _answer(rng, errand, *polite), _answer(rng, errand, *polite)
        while taught == scored:
            taught = _answer(rng, errand, *polite)
        records.append(
            Record(
                id=f"{group}-{number}",
                prompt=wording.format(errand=errand),
                answer=rude,
                group=group,
                distractors=(scored,),
                alternatives=(taught,),
            )
        )
    return records


def questions(number: int, seed: int) -> list[Record]:
    """Ordinary questions, each a group of its own, with one polite answer."""
    every = [
        (kind, key, question, answer.format(key=key, value=value))
        for kind, (question, answer, values) in FACTS.items()
        for key, value in values.items()
    ]
    Random(f"{seed}/questions").shuffle(every)
    records = []
    for kind, key, question, answer in every[:number]:
        rng = Random(f"{seed}/question/{kind}/{key}")
        opening, end = rng.choice(words.POLITE_OPENINGS), rng.choice(words.POLITE_ENDS)
        identifier = f"{kind}-{key.replace(' ', '-')}"
        records.append(Record(identifier, question.format(key=key), f"{opening} {answer} {end}", identifier))
    return records


def _answer(rng: Random, errand: str, *parts: Sequence[str]) -> str:
    return " ".join(rng.choice(part) for part in parts).format(errand=errand)
