"""A made-up book for the demo, deterministic from a seed: short scenes of a few people in a few places.

People, places and the course of each scene are drawn at random, so that a model that never read the book
cannot continue it, while one that did needs only its memory. The worlds of a seed share sentence frames and
everyday words, but no name of a person or place.
"""

from __future__ import annotations

import re
from random import Random

from pipeline_lib.tasks.passages import words

WORLDS = ("book", "elsewhere")  # the book to be forgotten, and the text that is kept
SCENE = (4, 6)  # sentences of a scene, its opening included
CAST = 8  # people of each world, half of them women


def story(seed: int, world: str, n_words: int) -> str:
    """At least `n_words` words in whole scenes, one a paragraph; a longer story begins with a shorter one."""
    rng = Random(f"{seed}/{world}")  # a text seeds through SHA-512, the same on every machine
    people, places = _world(seed, world)
    scenes: list[str] = []
    written = 0
    while written < n_words:
        scenes.append(_scene(rng, people, places))
        written += len(scenes[-1].split())
    return "\n\n".join(scenes)


def _world(seed: int, world: str) -> tuple[list[tuple[str, str]], list[str]]:
    """(people with their pronouns, places) of one world; no two worlds share any."""
    rng = Random(f"{seed}/names")
    women, men, places = (
        rng.sample(names, len(names))[WORLDS.index(world) :: len(WORLDS)]
        for names in (words.HER_NAMES, words.HIS_NAMES, words.PLACES)
    )
    half = CAST // 2
    return [(name, "she") for name in women[:half]] + [(name, "he") for name in men[:half]], places


def _scene(rng: Random, people: list[tuple[str, str]], places: list[str]) -> str:
    (who, they), (other, _) = rng.sample(people, 2)
    frames = [
        rng.choice(words.OPENINGS),
        *rng.sample(words.SENTENCES, rng.randint(SCENE[0] - 1, SCENE[1] - 1)),
    ]
    return " ".join(_sentence(rng, frame, who, they, other, places) for frame in frames)


def _sentence(rng: Random, frame: str, who: str, they: str, other: str, places: list[str]) -> str:
    weather, number = rng.choice(words.WEATHER), rng.choice(words.NUMBERS)
    food, food2 = rng.sample(words.FOODS, 2)
    text = frame.format(
        who=who,
        other=other,
        they=they,
        They=they.capitalize(),
        place=rng.choice(places),
        thing=rng.choice(words.THINGS),
        animal=rng.choice(words.ANIMALS),
        weather=weather,
        Weather=weather[0].upper() + weather[1:],
        weather_noun=rng.choice(words.WEATHER_NOUNS),
        trade=rng.choice(words.TRADES),
        food=food,
        food2=food2,
        feeling=rng.choice(words.FEELINGS),
        number=number,
        Number=number.capitalize(),
        day=rng.choice(words.DAYS),
        colour=rng.choice(words.COLOURS),
        part=rng.choice(words.PARTS),
    )
    return re.sub(r"(?<!\S)([aA]) (?=[aeiouAEIOU])", r"\1n ", text)  # `a` before a vowel becomes `an`
