"""Records to tokens: a prompt and its answer, with an exact boundary between them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pipeline_lib.data.batching import Example
from pipeline_lib.errors import UserError

if TYPE_CHECKING:
    from pipeline_lib.models.prompt import PromptFormat


def encode(
    prompts: Sequence[str],
    answers: Sequence[str],
    tokenizer,
    prompt_format: PromptFormat,
    max_length: int,
) -> list[Example]:
    """Tokenise pairs; the answer is tokenised apart from the prompt, so the boundary is exact.

    Raises `UserError` if a pair does not fit into `max_length` tokens: a truncated answer would be
    scored against a text nobody wrote.
    """
    examples = []
    for index, (prompt, answer) in enumerate(zip(prompts, answers, strict=True)):
        prompt_ids = prompt_format.encode_prompt(tokenizer, prompt)
        answer_ids = prompt_format.encode_answer(tokenizer, answer)
        length = len(prompt_ids) + len(answer_ids)
        if length > max_length:
            raise UserError(
                f"record {index} needs {length} tokens but the context holds {max_length}: "
                f"{prompt[:60]!r}. Raise `max_length` (up to the model's context) or shorten the record."
            )
        examples.append(Example((*prompt_ids, *answer_ids), len(prompt_ids), index))
    return examples
