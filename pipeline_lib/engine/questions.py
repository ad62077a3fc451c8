"""A record as a model is asked it: tokens, grouped by prompt."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

from pipeline_lib.data.batching import Example
from pipeline_lib.data.records import Record
from pipeline_lib.models.prompt import SLOT, PromptFormat

# The paper's code ends an answer when prompt and answer together have so many tokens; after its adversarial
# prompt, when the answer alone has so many.
AS_RELEASED_TOKENS = 200
ADVERSARIAL_TOKENS = 100


@dataclass(frozen=True)
class Question:
    """One record as tokens: the texts after its prompt and, for `as_released`, after the paraphrased one."""

    record: Record
    texts: list[Example]  # answer, paraphrase, distractors
    whole: Example | None = None  # prompt and answer as one text without an end token, for `as_released`
    # where the paraphrased prompt differs: the paraphrased answer, the distractors, and the paraphrased
    # question with its answer as one text
    released: list[Example] | None = None
    adversarial: Example | None = None  # the answer after the adversarial prompt

    @property
    def prompt(self) -> list[int]:
        return list(self.texts[0].tokens[: self.texts[0].prompt_length])

    @property
    def answer(self) -> list[int]:
        return list(self.texts[0].tokens[self.texts[0].prompt_length :])

    @property
    def groups(self) -> list[list[Example]]:
        """Sequences that are scored together, one tree for each prompt."""
        first = self.texts if self.whole is None else [*self.texts, self.whole]
        others = [self.released] if self.released else []
        return [first, *others, *([[self.adversarial]] if self.adversarial else [])]

    def prompt_token(self, whole_nll: Sequence[float], begin: int | None, released: bool) -> list[float]:
        """The NLL of the prompt's last token, which the paper's code scores with every answer.

        It counts a prompt's tokens without the begin token, and so scores none where a tokenizer has none.
        `whole_nll` (T - 1,): of prompt and answer as one text, from the second token on; `released`: of the
        paraphrased question.
        """
        text = self.released[0] if released and self.released else self.texts[0]
        counted = begin is not None and text.tokens[0] == begin and text.prompt_length > 1
        return [whole_nll[text.prompt_length - 2]] if counted else []

    @property
    def paraphrase(self) -> str:
        """The paraphrased answer, or the answer where there is none."""
        return (
            self.record.answer if self.record.paraphrased_answer is None else self.record.paraphrased_answer
        )


def with_example(prompt_format: PromptFormat, retain: Sequence[Record]) -> PromptFormat | None:
    """The format of the paper's adversarial questions, each after a retain question with its answer.

    That one question is drawn as in the paper's code (`random` with seed 0). None where there is none, and
    for chats, which that code does not ask.
    """
    usable = [
        record for record in retain if record.form != "text" and SLOT not in record.prompt + record.answer
    ]
    if prompt_format.kind != "template" or not usable:
        return None
    (place,) = random.Random(0).sample(range(len(usable)), 1)
    template, record = prompt_format.template or "", usable[place]
    before = template.replace(SLOT, record.prompt) + prompt_format.answer_prefix + record.answer
    return replace(prompt_format, template=before + template)
