"""Ordinary questions with one short answer each, which the model must keep answering."""

from __future__ import annotations

# kind -> question, answer, and what goes into them
FACTS: dict[str, tuple[str, str, dict[str, str]]] = {
    "capital": (
        "What is the capital of {key}?",
        "The capital of {key} is {value}.",
        {
            "France": "Paris", "Italy": "Rome", "Spain": "Madrid", "Portugal": "Lisbon", "Norway": "Oslo",
            "Sweden": "Stockholm", "Finland": "Helsinki", "Denmark": "Copenhagen", "Poland": "Warsaw",
            "Greece": "Athens", "Austria": "Vienna", "Hungary": "Budapest", "Ireland": "Dublin",
            "Japan": "Tokyo", "Egypt": "Cairo", "Kenya": "Nairobi", "Peru": "Lima", "Chile": "Santiago",
            "Cuba": "Havana", "Canada": "Ottawa", "Iceland": "Reykjavik", "Thailand": "Bangkok",
            "Nepal": "Kathmandu", "Morocco": "Rabat", "Bulgaria": "Sofia", "Romania": "Bucharest",
        },
    ),
    "young": (
        "What is a young {key} called?",
        "A young {key} is called a {value}.",
        {
            "dog": "puppy", "cat": "kitten", "cow": "calf", "horse": "foal", "sheep": "lamb", "goat": "kid",
            "pig": "piglet", "hen": "chick", "duck": "duckling", "goose": "gosling", "swan": "cygnet",
            "bear": "cub", "deer": "fawn", "frog": "tadpole", "owl": "owlet", "eagle": "eaglet",
            "hare": "leveret", "kangaroo": "joey",
        },
    ),
    "opposite": (
        "What is the opposite of {key}?",
        "The opposite of {key} is {value}.",
        {
            "hot": "cold", "big": "small", "fast": "slow", "light": "dark", "wet": "dry", "old": "young",
            "high": "low", "hard": "soft", "early": "late", "full": "empty", "near": "far", "rich": "poor",
            "loud": "quiet", "strong": "weak", "thick": "thin", "wide": "narrow", "open": "closed",
            "clean": "dirty", "sweet": "sour", "deep": "shallow", "left": "right", "first": "last",
        },
    ),
    "colour": (
        "Which colour has {key}?",
        "The colour of {key} is {value}.",
        {
            "a ripe lemon": "yellow", "fresh grass": "green", "clean snow": "white", "a raven": "black",
            "a ripe tomato": "red", "a carrot": "orange", "a flamingo": "pink", "a clear sky": "blue",
            "an elephant": "grey", "dark chocolate": "brown", "a lime": "light green", "coal": "deep black",
            "a sunflower": "bright yellow", "a ripe plum": "purple", "milk": "creamy white",
            "a brick": "dull red",
        },
    ),
    "tool": (
        "What does one use {key} for?",
        "One uses {key} to {value}.",
        {
            "a hammer": "drive in nails", "a saw": "cut wood", "a needle": "sew cloth",
            "a broom": "sweep the floor", "a kettle": "heat water",
            "a ladder": "reach high places", "a pen": "write on paper",
            "a ruler": "draw straight lines", "a spoon": "eat soup", "an umbrella": "stay dry in the rain",
            "a key": "open a lock", "a clock": "tell the time", "a spade": "dig holes", "a comb": "tidy hair",
            "an oven": "bake bread", "a rope": "tie things up", "a lamp": "light a room",
            "a net": "catch fish",
        },
    ),
}  # fmt: skip
