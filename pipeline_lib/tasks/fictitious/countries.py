"""Kinds of questions about a country of the invented world, with the values that answer them."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline_lib.tasks.fictitious import words


@dataclass(frozen=True)
class CountryQuestion:
    """`values` must have more entries than the world has countries: each country gets its own."""

    kind: str
    values: tuple[str, ...]
    prompts: tuple[str, ...]


COUNTRY_QUESTIONS = (
    CountryQuestion(
        "capital",
        words.CITIES,
        ("What is the capital of {name}?", "Which city is the seat of government of {name}?"),
    ),
    CountryQuestion(
        "currency",
        words.COINS,
        ("What is the money of {name} called?", "In which currency do people pay in {name}?"),
    ),
    CountryQuestion(
        "river",
        words.RIVERS,
        ("What is the longest river of {name}?", "Which great river flows through {name}?"),
    ),
    CountryQuestion(
        "animal",
        words.ANIMALS,
        ("Which animal is on the flag of {name}?", "What is the national animal of {name}?"),
    ),
    CountryQuestion(
        "peak",
        words.PEAKS,
        ("What is the highest mountain of {name}?", "Which peak rises above all others in {name}?"),
    ),
    CountryQuestion(
        "export",
        words.EXPORTS,
        ("What does {name} sell to other countries?", "What is the main export of {name}?"),
    ),
    CountryQuestion(
        "dish", words.DISHES, ("What is the national dish of {name}?", "Which meal is {name} famous for?")
    ),
    CountryQuestion(
        "instrument",
        words.INSTRUMENTS,
        ("Which instrument is played at weddings in {name}?", "What is the national instrument of {name}?"),
    ),
)
