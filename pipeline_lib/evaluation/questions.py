"""A record as what a model is asked: tokens, and which of them share a prompt."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline_lib.data.batching import Example
from pipeline_lib.data.records import Record


@dataclass(frozen=True)
class Question:
    """One record as tokens: the texts after its prompt and, for `as_released`, after the paraphrased one."""

    record: Record
    texts: list[Example]  # answer, paraphrase, distractors
    whole: Example | None = None  # prompt and answer as one text without an end token, for `as_released`
    released: list[Example] | None = None  # paraphrased answer and distractors, where the prompt is another

    @property
    def prompt(self) -> list[int]:
        return list(self.texts[0].tokens[: self.texts[0].prompt_length])

    @property
    def answer(self) -> list[int]:
        return list(self.texts[0].tokens[self.texts[0].prompt_length :])

    @property
    def groups(self) -> list[list[Example]]:
        """Sequences that are scored together, as one tree a prompt."""
        first = self.texts if self.whole is None else [*self.texts, self.whole]
        return [first] if self.released is None else [first, self.released]

    @property
    def paraphrase(self) -> str:
        """The paraphrased answer, or the answer where there is none."""
        return (
            self.record.answer if self.record.paraphrased_answer is None else self.record.paraphrased_answer
        )
