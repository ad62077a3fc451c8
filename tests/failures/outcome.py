"""What became of a fault: one row of the table."""

from __future__ import annotations

from dataclasses import dataclass

CONTINUED = "continued; same bits as undisturbed"


@dataclass(frozen=True)
class Outcome:
    """`where`: what was disturbed. `how`: how often or at which moments. `became`: what one sees."""

    where: str
    how: str
    became: str


def short(message: str, limit: int = 400) -> str:
    """A message for the table: on one line, folders of this run left out."""
    words = [word.rsplit("/", 1)[-1] if word.count("/") > 2 else word for word in message.split()]
    text = " ".join(words).replace("|", "/")
    return text if len(text) <= limit else text[: limit - 3] + "..."
