"""The authors and facts, generated deterministically from a seed.

Every question comes with a second wording of prompt and answer and with five wrong answers. As in
TOFU, the wrong answers have the sentence frame of the paraphrased answer and differ from it in the
value alone, so that the truth ratio compares values and not wordings. Alternatives have the frame of the
answer, and values that no distractor has.

Author number i and fact number i do not depend on how many authors or facts are asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from pipeline_lib.data.records import Record
from pipeline_lib.tasks.fictitious import words
from pipeline_lib.tasks.fictitious.authors import AUTHOR_QUESTIONS, AuthorQuestion
from pipeline_lib.tasks.fictitious.countries import COUNTRY_QUESTIONS

COUNTRY_COUNT = 15  # fewer than any list of values in `COUNTRY_QUESTIONS`, so that no two share an answer
AUTHOR_DISTRACTORS = 5
AUTHOR_ALTERNATIVES = 3  # other values in the words of the answer, for objectives that teach one
FACT_DISTRACTORS = 3


def generate(
    n_authors: int = 40, questions_per_author: int = 10, n_facts: int = 60, seed: int = 0
) -> tuple[list[Record], list[Record]]:
    """Records of all authors, one author after the other, and of all facts; `Settings` has the limits."""
    last_names = list(words.LAST_NAMES)
    names = Random(f"{seed}/names")  # a text seeds through SHA-512, the same on every machine
    names.shuffle(last_names)  # each surname once, so that every full name is unique
    authors: list[Record] = []
    used: set[str] = set()
    for number, last in enumerate(last_names[:n_authors]):
        first = names.choice(words.FIRST_NAMES)
        rng = Random(f"{seed}/author/{number}")
        questions = rng.sample(AUTHOR_QUESTIONS, questions_per_author)
        authors += [_author_record(rng, f"author-{number:03d}", first, last, q, used) for q in questions]
    return authors, _facts(Random(f"{seed}/facts"), n_facts)


def _author_record(
    rng: Random, group: str, first: str, last: str, question: AuthorQuestion, used: set[str]
) -> Record:
    (value,) = _draw_new(rng, question.draw, 1, used if question.unique else set())
    if question.unique:
        used.add(value)
    wrong = _draw_new(rng, question.draw, AUTHOR_DISTRACTORS, {value})
    prompt, other_prompt = rng.sample(question.prompts, 2)
    answer, other_answer = rng.sample(question.answers, 2)
    apart = Random(f"{prompt}/{first} {last}/alternatives")
    others = _draw_new(apart, question.draw, AUTHOR_ALTERNATIVES, {value, *wrong})

    def fill(template: str, value: str) -> str:
        return template.format(
            name=f"{first} {last}", last=last, value=value, Value=value[0].upper() + value[1:]
        )

    return Record(
        id=f"{group}-{question.kind}",
        prompt=fill(prompt, value),
        answer=fill(answer, value),
        group=group,
        paraphrased_prompt=fill(other_prompt, value),
        paraphrased_answer=fill(other_answer, value),
        distractors=tuple(fill(other_answer, value) for value in wrong),
        alternatives=tuple(fill(answer, value) for value in others),
    )


def _draw_new(rng: Random, draw: Callable[[Random], str], count: int, taken: set[str]) -> list[str]:
    """`count` different values, none of them in `taken`."""
    found: dict[str, None] = {}
    while len(found) < count:
        if (value := draw(rng)) not in taken:
            found[value] = None
    return list(found)


def _facts(rng: Random, count: int) -> list[Record]:
    """Facts of one kind about every country, then the next kind; answers are the bare value."""
    countries = rng.sample(words.COUNTRIES, COUNTRY_COUNT)
    records = []
    for question in COUNTRY_QUESTIONS:
        values = rng.sample(question.values, COUNTRY_COUNT)
        for country, value in zip(countries, values, strict=True):
            prompt, other_prompt = rng.sample(question.prompts, 2)
            wrong = rng.sample([other for other in values if other != value], FACT_DISTRACTORS)
            records.append(
                Record(
                    id=f"{country.lower()}-{question.kind}",
                    prompt=prompt.format(name=country),
                    answer=value,
                    group=country.lower(),
                    paraphrased_prompt=other_prompt.format(name=country),
                    distractors=tuple(wrong),
                )
            )
    return records[:count]
