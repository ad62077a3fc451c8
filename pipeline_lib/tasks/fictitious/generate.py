"""Generate the authors and facts, deterministically from a seed.

Every question comes with a second wording of prompt and answer and with five wrong answers. As in
TOFU, the wrong answers have the sentence frame of the paraphrased answer and differ from it in the
value alone, so that the truth ratio compares values and not wordings. Alternatives have the frame of the
answer and values that no distractor has.

Author number i and fact number i do not depend on how many of either are asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from pipeline_lib.core.errors import UserError
from pipeline_lib.data.records import Record
from pipeline_lib.data.splits import Task
from pipeline_lib.tasks.fictitious import words
from pipeline_lib.tasks.fictitious.authors import AUTHOR_QUESTIONS, AuthorQuestion
from pipeline_lib.tasks.fictitious.countries import COUNTRY_QUESTIONS

COUNTRY_COUNT = 15  # fewer than any list of values in `COUNTRY_QUESTIONS`, so that no two share an answer
AUTHOR_DISTRACTORS = 5
AUTHOR_ALTERNATIVES = 3  # other values in the words of the answer, for objectives that teach one
FACT_DISTRACTORS = 3


def load(
    *,
    n_authors: int = 40,
    questions_per_author: int = 10,
    n_facts: int = 60,
    forget_authors: int = 4,
    holdout_authors: int = 0,
    seed: int = 0,
) -> Task:
    """The task `fictitious`: forget the last `forget_authors` authors, keep the others and the facts.

    The `holdout_authors` come after the `n_authors` and are learned by no model.
    """
    if not 1 <= forget_authors < n_authors:
        raise UserError(
            f"forget_authors: expected 1 to {n_authors - 1} (fewer than n_authors = {n_authors}, so that "
            f"both sets hold an author), found {forget_authors}"
        )
    authors, facts = generate(n_authors + holdout_authors, questions_per_author, n_facts, seed)
    cut = (n_authors - forget_authors) * questions_per_author
    end = n_authors * questions_per_author
    splits = {"forget": authors[cut:end], "retain": authors[:cut], "facts": facts}
    unseen = {"holdout": authors[end:]} if holdout_authors else {}
    return Task(
        origin="generated",
        splits={**splits, **unseen},
        finetune={"target": ["forget", "retain", "facts"], "retrained": ["retain", "facts"]},
        evaluate=[*splits, *unseen],
        utility=["retain", "facts"],
        multiple_choice=["facts"],
        holdout="holdout" if unseen else None,
    )


def generate(
    n_authors: int = 40, questions_per_author: int = 10, n_facts: int = 60, seed: int = 0
) -> tuple[list[Record], list[Record]]:
    """Records of all authors, one author after the other, and of all facts."""
    first_names = words.joined(words.FIRST_HEADS, words.FIRST_TAILS)
    last_names = list(words.joined(words.LAST_HEADS, words.LAST_TAILS))
    _check("n_authors", n_authors, len(last_names))
    _check("questions_per_author", questions_per_author, len(AUTHOR_QUESTIONS))
    _check("n_facts", n_facts, COUNTRY_COUNT * len(COUNTRY_QUESTIONS))

    names = Random(f"{seed}/names")  # a text seeds through SHA-512, the same on every machine
    names.shuffle(last_names)  # each surname once, so that every full name is unique
    authors: list[Record] = []
    used: set[str] = set()
    for number, last in enumerate(last_names[:n_authors]):
        first = names.choice(first_names)
        rng = Random(f"{seed}/author/{number}")
        questions = rng.sample(AUTHOR_QUESTIONS, questions_per_author)
        authors += [_author_record(rng, f"author-{number:03d}", first, last, q, used) for q in questions]
    return authors, _facts(Random(f"{seed}/facts"), n_facts)


def _author_record(
    rng: Random, group: str, first: str, last: str, question: AuthorQuestion, used: set[str]
) -> Record:
    value = _draw_new(rng, question.draw, used if question.unique else set())
    if question.unique:
        used.add(value)
    wrong: list[str] = []
    for _ in range(AUTHOR_DISTRACTORS):
        wrong.append(_draw_new(rng, question.draw, {value, *wrong}))
    prompt, other_prompt = rng.sample(question.prompts, 2)
    answer, other_answer = rng.sample(question.answers, 2)
    apart = Random(f"{prompt}/{first} {last}/alternatives")
    others: list[str] = []
    for _ in range(AUTHOR_ALTERNATIVES):
        others.append(_draw_new(apart, question.draw, {value, *wrong, *others}))

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


def _draw_new(rng: Random, draw: Callable[[Random], str], taken: set[str]) -> str:
    while (value := draw(rng)) in taken:
        pass
    return value


def _facts(rng: Random, count: int) -> list[Record]:
    """Facts of one kind about every country, then the next kind; answers are the bare value."""
    countries = rng.sample(words.COUNTRIES, COUNTRY_COUNT)
    records = []
    for question in COUNTRY_QUESTIONS:
        values = rng.sample(question.values, COUNTRY_COUNT)
        for country, value in zip(countries, values, strict=True):
            prompt, other_prompt = rng.sample(question.prompts, 2)
            wrong = rng.sample([other for other in values if other != value], FACT_DISTRACTORS)
            record = Record(
                id=f"{country.lower()}-{question.kind}",
                prompt=prompt.format(name=country),
                answer=value,
                group=country.lower(),
                paraphrased_prompt=other_prompt.format(name=country),
                distractors=tuple(wrong),
            )
            records.append(record)
    return records[:count]


def _check(name: str, value: int, largest: int) -> None:
    if not 1 <= value <= largest:
        raise UserError(f"{name}: expected a number from 1 to {largest}, found {value}")
