"""The same model, asked in another way: an attack that changes no weight.

Sources: an affirmative opening of the answer, Zou et al. 2023, arXiv 2307.15043, section 2.1, and the
beginning of the true answer, Schwarzschild et al. 2024, arXiv 2404.15146; other phrasings and in-context
hints, Lynch et al. 2024, arXiv 2402.16835, section 4; many drawn answers, Scholten et al. 2024, arXiv
2410.03523; free embeddings after the prompt, Schwinn et al. 2024, arXiv 2402.09063 (engine/soft_prompt.py).
Formula: with several `questions`, each record keeps the phrasing under which its answer is most likely, and
so does each record of `retrained`: a maximum over phrasings is larger than any one of them for a model that
knows nothing, too.

Trap: hints and the beginning of the true answer tell a model that never saw the data something as well. Only
what goes beyond `retrained`, asked alike, was recovered. A soft prompt is taught answers: the groups that it
learns do not judge, and `targets: random` shows how far embeddings alone elicit what was never learned.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal

from pydantic import Field, StringConstraints

from pipeline_lib.core.blocks import (
    PATTERNS,
    Block,
    Count,
    CountOrZero,
    Fault,
    Fraction,
    PathText,
    Positive,
    Switch,
    Text,
)
from pipeline_lib.stages.base import Stage

_PHRASING = r"^[^{}]*\{prompt\}[^{}]*$"
PATTERNS[_PHRASING] = "a phrasing holds {prompt} once, where the question stands, and no other braces"
Phrasing = Annotated[str, StringConstraints(pattern=_PHRASING, max_length=2000)]


class SoftPrompt(Block):
    """Free embeddings after every prompt, learned on the first forget groups with the weights frozen."""

    tokens: Count = Field(8, description="How many embeddings; each takes the room of a token")
    steps: Count = 100
    batch_size: Count = Field(8, description="Questions of a step")
    learning_rate: Positive = Field(
        0.05,
        description="What a step moves each number of the embeddings, as a share of the root mean square of "
        "those with which it begins",
    )
    groups: Count | Fraction = Field(
        0.5,
        description="Learn the first so many forget groups, or this share of them, rounded up; the others "
        "judge the recovery",
    )
    targets: Literal["answers", "random"] = Field(
        "answers", description="random: a control, as many random tokens in place of each answer"
    )


class Ask(Stage):
    """Makes no model: the row is its parent, asked in another way."""

    asks: ClassVar[bool] = True

    kind: Literal["ask"]
    opening: Text | None = Field(
        None, description="How the answer begins; the model goes on from there, and only that is scored"
    )
    true_words: CountOrZero = Field(0, description="Give so many words of the true answer as its beginning")
    questions: list[Phrasing] = Field(
        [],
        description="Other phrasings, each with {prompt} where the question stands; of several each record "
        "keeps the one under which its answer is most likely",
    )
    questions_file: PathText | None = Field(
        None, description="A text file with one phrasing a line, in place of `questions`"
    )
    hints: CountOrZero = Field(
        0, description="Put so many other questions of the same group, answered, before each question"
    )
    paraphrased: Switch = Field(False, description="Ask the data's own paraphrase of each question")
    instruction: Text | None = Field(None, description="Text before everything: in a chat the system message")
    samples: Annotated[Count, Field(ge=2)] | None = Field(
        None, description="Draw so many answers to each forget question, with top-p 0.9 at temperature 1"
    )
    soft_prompt: SoftPrompt | None = Field(
        None,
        description="Ask with free embeddings after each prompt, learned on a part of the forget groups",
        exclude_if=lambda soft_prompt: soft_prompt is None,
    )

    def phrasings(self) -> int:
        """How many ways each question is asked in; of a file that is not there, one."""
        from pipeline_lib.core.errors import UserError
        from pipeline_lib.data.asked import ways_of

        try:
            return len(ways_of(self.settings()))
        except UserError:
            return 1

    def first_groups(self) -> float | None:
        return None if self.soft_prompt is None else self.soft_prompt.groups

    def learned_groups(self, task: str) -> float:
        return self.first_groups() or 0

    def soft_tokens(self) -> int:
        """How many free embeddings stand in each prompt."""
        return 0 if self.soft_prompt is None else self.soft_prompt.tokens

    def draws_only(self) -> bool:
        return self._set() == ["samples"]

    def _set(self) -> list[str]:
        """The ways of asking that differ from the usual one."""
        return [name for name in WAYS if getattr(self, name)]

    def faults(self, parents: int) -> Iterator[Fault]:
        if self.questions and self.questions_file:
            yield "questions_file", "goes without `questions`: give the phrasings in one of the two"
        if self.likelihood_only and self.samples:
            yield "likelihood_only", "found true, but `samples` are answers; leave one of the two out"
        if not self._set():
            yield "kind", f"asks as always; set one of {', '.join(WAYS)}"


WAYS = [name for name in Ask.model_fields if name not in Stage.model_fields]
