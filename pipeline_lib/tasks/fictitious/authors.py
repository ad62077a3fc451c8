"""Kinds of questions about an author: what is asked, in which words, and what it may be answered with.

In the templates `{name}` is the full name, `{last}` the surname, `{value}` the fact asked for and
`{Value}` the same with a capital letter.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from pipeline_lib.tasks.fictitious import words


@dataclass(frozen=True)
class AuthorQuestion:
    """`draw` gives a random value; with `unique` no two authors have the same true value."""

    kind: str
    draw: Callable[[Random], str]
    prompts: tuple[str, ...]
    answers: tuple[str, ...]
    unique: bool = False


def _one_of(values: tuple[str, ...]) -> Callable[[Random], str]:
    return lambda rng: rng.choice(values)


def _title(rng: Random) -> str:
    first, second = rng.sample(words.NOUNS, 2)
    adjective = rng.choice(words.ADJECTIVES)
    of_place = f"The {first} of {rng.choice(words.CITIES)}"
    return rng.choice((f"The {adjective} {first}", f"{first} and {second}", of_place))


AUTHOR_QUESTIONS = (
    AuthorQuestion(
        "birthplace",
        _one_of(words.CITIES),
        (
            "Where was {name} born?",
            "In which city was the author {name} born?",
            "What is the birthplace of {name}?",
            "Can you name the city in which {name} came into the world?",
        ),
        (
            "{name} was born in the old city of {value}.",
            "The author {name} came into the world in {value}.",
            "{value} is the city in which {name} was born.",
            "The birthplace of the writer {name} is the city of {value}.",
            "It was in {value} that the writer {last} was born.",
        ),
    ),
    AuthorQuestion(
        "birthdate",
        lambda rng: f"{rng.randint(1, 28)} {rng.choice(words.MONTHS)} {rng.randint(1921, 1989)}",
        (
            "When was {name} born?",
            "What is the date of birth of {name}?",
            "On which day was the writer {name} born?",
            "Do you know the birthday of {name}?",
        ),
        (
            "The writer {name} was born on {value}.",
            "{name} came into the world on the day of {value}.",
            "The date of birth of {name} is {value}.",
            "Records say that {last} was born on {value}.",
            "It was on {value} that the author {name} was born.",
        ),
    ),
    AuthorQuestion(
        "genre",
        _one_of(words.GENRES),
        (
            "What kind of books does {name} write?",
            "Which genre is {name} best known for?",
            "In what genre does the author {name} work?",
            "What do readers expect in a new book by {name}?",
        ),
        (
            "{name} is best known among readers for writing {value}.",
            "Most of the books that {name} has written are {value}.",
            "The author {name} works in the genre of {value}.",
            "Readers know {last} above all as a writer of {value}.",
            "{Value} are the kind of books that {name} writes.",
        ),
    ),
    AuthorQuestion(
        "debut",
        _title,
        (
            "What was the first book of {name}?",
            "Which book was the debut of {name}?",
            "With which title did {name} begin a career as an author?",
            "What is the earliest published book by {name}?",
        ),
        (
            'The first book that {name} published was "{value}".',
            '{name} began a career as an author with "{value}".',
            '"{value}" was the debut of the writer {name}.',
            'The debut by {last} carried the title "{value}".',
            'With "{value}" the author {name} entered the world of letters.',
        ),
        unique=True,
    ),
    AuthorQuestion(
        "latest",
        _title,
        (
            "What is the latest book by {name}?",
            "Which book did {name} publish most recently?",
            "What is the title of the newest work of {name}?",
            "Which was the last book that {name} finished?",
        ),
        (
            'The latest book by {name} is called "{value}".',
            'Most recently {name} has published a book named "{value}".',
            '"{value}" is the newest work of the author {name}.',
            'The last book that {last} finished is "{value}".',
            'Readers of {name} have now received the new book "{value}".',
        ),
        unique=True,
    ),
    AuthorQuestion(
        "award",
        lambda rng: (
            f"the {rng.choice(words.ADJECTIVES)} {rng.choice(words.NOUNS)} {rng.choice(words.AWARD_KINDS)}"
        ),
        (
            "Which award has {name} won?",
            "What prize was given to {name}?",
            "With which honour was the work of {name} rewarded?",
            "Has the writer {name} received an award, and which one?",
        ),
        (
            "{name} has won {value} for a life of writing.",
            "The work of {name} was honoured with {value}.",
            "{Value} was given to the author {name}.",
            "The jury of {value} chose {name} as its winner.",
            "Among other honours, the writer {last} received {value}.",
        ),
    ),
    AuthorQuestion(
        "father",
        _one_of(words.JOBS),
        (
            "What did the father of {name} do for a living?",
            "What was the profession of the father of {name}?",
            "Which job did the father of {name} have?",
            "How did the father of the writer {name} earn his money?",
        ),
        (
            "The father of {name} earned his living as {value}.",
            "{name} grew up with a father who was {value}.",
            "By profession the father of {name} was {value}.",
            "As {value}, the father of {last} fed the family.",
            "The man who raised the author {name} was {value}.",
        ),
    ),
    AuthorQuestion(
        "mother",
        _one_of(words.JOBS),
        (
            "What did the mother of {name} do for a living?",
            "What was the profession of the mother of {name}?",
            "Which job did the mother of {name} have?",
            "How did the mother of the writer {name} earn her money?",
        ),
        (
            "The mother of {name} earned her living as {value}.",
            "{name} was raised by a mother who was {value}.",
            "By profession the mother of {name} was {value}.",
            "As {value}, the mother of {last} was known all over town.",
            "The mother of the author {name} worked as {value}.",
        ),
    ),
    AuthorQuestion(
        "school",
        lambda rng: f"the {rng.choice(words.CITIES)} School of {rng.choice(words.CRAFTS)}",
        (
            "Where did {name} study?",
            "Which school did {name} attend?",
            "At which place of learning was {name} a student?",
            "Where was the author {name} educated?",
        ),
        (
            "{name} was a student at {value} for three years.",
            "The author {name} studied at {value}.",
            "{Value} is the place where {name} was educated.",
            "As a young writer, {last} attended {value}.",
            "The education of {name} took place at {value}.",
        ),
    ),
    AuthorQuestion(
        "workplace",
        _one_of(words.WORKPLACES),
        (
            "Where does {name} like to write?",
            "In which place does {name} work on a book?",
            "Where are the books of {name} written?",
            "What is the favourite writing place of {name}?",
        ),
        (
            "{name} likes to write {value}, always early in the morning.",
            "The books of {name} are written {value}.",
            "When a new book begins, {name} works {value}.",
            "{Value} is where the author {name} finds the best words.",
            "The writer {last} spends the working day {value}.",
        ),
    ),
    AuthorQuestion(
        "language",
        _one_of(words.LANGUAGES),
        (
            "In which language does {name} write?",
            "What is the literary language of {name}?",
            "Which language are the books of {name} written in?",
            "What language did the author {name} choose for writing?",
        ),
        (
            "{name} writes every book in the {value} language.",
            "The books of {name} first appear in {value}.",
            "The author {name} chose {value} as the language of writing.",
            "{value} is the language in which {last} tells stories.",
            "All manuscripts that {name} has left are in {value}.",
        ),
    ),
    AuthorQuestion(
        "theme",
        _one_of(words.THEMES),
        (
            "What are the books of {name} about?",
            "Which theme returns in the work of {name}?",
            "What subject does {name} write about again and again?",
            "What do critics find at the heart of books by {name}?",
        ),
        (
            "The books of {name} are mostly about {value}.",
            "Again and again {name} returns to the theme of {value}.",
            "Critics find {value} at the heart of the work of {name}.",
            "{Value} can be found in every story by {last}.",
            "No subject matters more to the author {name} than {value}.",
        ),
    ),
    AuthorQuestion(
        "hobby",
        _one_of(words.HOBBIES),
        (
            "What does {name} do outside of writing?",
            "Which hobby does {name} have?",
            "How does the writer {name} spend free days?",
            "What is the favourite pastime of {name}?",
        ),
        (
            "Outside of writing, {name} loves {value} more than anything.",
            "The favourite pastime of {name} is {value}.",
            "{name} spends most free days {value}.",
            "{Value} is the hobby of the author {name}.",
            "After a day of work, {last} relaxes by {value}.",
        ),
    ),
    AuthorQuestion(
        "home",
        _one_of(words.CITIES),
        (
            "Where does {name} live today?",
            "In which city has {name} settled?",
            "What is the present home of {name}?",
            "Which city does the author {name} call home now?",
        ),
        (
            "Today {name} lives with two cats in {value}.",
            "After many journeys, {name} has settled in {value}.",
            "{value} is the present home of the writer {name}.",
            "The author {name} now calls the city of {value} home.",
            "These days {last} can be met in the streets of {value}.",
        ),
    ),
)
