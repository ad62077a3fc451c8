"""How many tokens a task's splits have in a model's prompt format."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pipeline_lib.models.settings import ModelSettings
from pipeline_lib.tasks.base import HOLDOUT, SplitSize, TaskSettings

CHAT_TOKENS = 25  # of a chat template around a short question
CHARACTERS = 4  # of English text to a token, in large vocabularies
PADDING = 1.25  # padded tokens a real one, in batches of similar length

# For a task whose settings do not tell its sizes: those of TOFU's smallest forget set.
GUESS = {"forget": 40, "retain": 400}
GUESSED_EVALUATION = 200


@dataclass(frozen=True)
class Lengths:
    """Records of a split as a model reads them: mean tokens, and the longest record's."""

    records: int
    prompt: float
    answer: float
    longest: int
    texts: int
    learned_by: str
    multiple_choice: bool = False

    @property
    def whole(self) -> float:
        return self.prompt + self.answer

    def usual(self, rows: int) -> float:
        """Width of a batch of `rows`: lengths have a tail, of which a batch shows a part.

        The longest of n draws from an exponential tail lies above its mean in proportion to log n.
        """
        share = math.log(min(rows, self.records)) / math.log(self.records) if self.records > 1 else 1.0
        return self.whole + (self.longest - self.whole) * share

    def answers(self, rows: int) -> float:
        """Answer tokens of a batch of many `rows`: the mean, and an excess that shrinks with their number."""
        rare = max(self.longest - self.prompt - self.answer, 0.0)
        return rows * (self.answer + rare / math.sqrt(rows))


def lengths_of(task: TaskSettings, model: ModelSettings) -> dict[str, Lengths]:
    """Lengths of each split for a model; guessed where the task does not know them."""
    sizes = task.size_hint()
    if sizes is None:
        taught: Literal["none", "both"] = "both" if task.is_taught() else "none"
        sizes = {n: SplitSize(count, 20, 60, model.max_length, 1, taught) for n, count in GUESS.items()}
        for name in task.evaluated_splits():
            learned = "none" if name == HOLDOUT else taught
            sizes.setdefault(name, SplitSize(GUESSED_EVALUATION, 20, 60, model.max_length, 5, learned))
    around = template_tokens(model.prompt)
    return {
        name: Lengths(
            size.records,
            min(size.prompt + around, model.max_length - 1),
            min(size.answer + 1, model.max_length),  # the end token
            min(size.longest + around + 1, model.max_length),
            size.texts,
            size.learned_by,
            size.multiple_choice,
        )
        for name, size in sizes.items()
        if size.records
    }


def template_tokens(prompt: Any) -> int:
    """Tokens of a prompt format around the prompt."""
    if prompt.kind == "chat":
        return CHAT_TOKENS + len(prompt.system or "") // CHARACTERS
    # Control tokens such as <user> are written out in a template, each is one token.
    rest = prompt.template.replace("{prompt}", "")
    return min(len(rest) // CHARACTERS, rest.count("<") + len(rest.split()) + rest.count("\n"))


def together(splits: Sequence[Lengths]) -> Lengths | None:
    """All records of several splits as one set; None where there are none."""
    total = sum(split.records for split in splits)
    if not total:
        return None

    prompt = sum(split.prompt * split.records for split in splits) / total
    answer = sum(split.answer * split.records for split in splits) / total
    return Lengths(total, prompt, answer, max(split.longest for split in splits), 1, "both")
