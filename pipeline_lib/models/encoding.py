"""Records to tokens: a prompt and its answer, with an exact boundary between them.

Questions ("question") are put in the model's prompt format, prompt and answer tokenised apart, and end with
the end token. Running text ("text") is prompt and answer as one text, tokenised together, without template
and without end token; see `PromptFormat.encode_text` for the boundary and the begin token.
"""

from __future__ import annotations

from collections.abc import Sequence

from pipeline_lib.core.errors import UserError
from pipeline_lib.data.batching import Example
from pipeline_lib.data.records import Record
from pipeline_lib.models.ends import end_id
from pipeline_lib.models.prompt import PromptFormat

Prompts = dict[tuple[str, str], list[int]]  # prompt and opening of a question -> their tokens


def encode_records(
    records: Sequence[Record], tokenizer, prompt_format: PromptFormat, max_length: int, learn: bool
) -> list[Example]:
    """An example of each record's prompt and answer; `index` is the place in `records`.

    `learn`: for training, where running text is learned as a whole: all of it but its first token carries
    labels. Without it, for scores and greedy continuations, only the answer does. In question form the answer
    alone is labelled either way.

    Raises `UserError` if a record does not fit into `max_length` tokens: a truncated answer would be scored
    against a text nobody wrote.
    """
    examples = []
    prompts: Prompts = {}
    for index, record in enumerate(records):
        tokens, begin, boundary = _encoded(record, record.answer, tokenizer, prompt_format, prompts)
        if record.form == "text" and learn:
            # The text's first token is not learned, not even after a begin token: so the same tokens are
            # learned with every tokenizer.
            boundary = begin + 1
        examples.append(example_of(record, tokens, boundary, index, max_length))
    return examples


def encode_replies(
    record: Record,
    replies: Sequence[str],
    tokenizer,
    prompt_format: PromptFormat,
    max_length: int,
    index: int,
) -> list[Example]:
    """The record's prompt with each reply (a refusal, an alternative answer) in place of its answer.

    Only the reply and the end token after it carry labels, in both forms. After running text a reply does not
    continue the text as it goes on: a space is put before it, unless there is one already, and the end token
    stops the model, which would otherwise go on with the text. All examples get `index`.
    """
    examples = []
    prompts: Prompts = {}
    for reply in replies:
        running = record.form == "text"
        spaced = not running or record.prompt[-1:].isspace() or reply[:1].isspace()
        answer = reply if spaced else f" {reply}"
        tokens, _, boundary = _encoded(record, answer, tokenizer, prompt_format, prompts)
        ending = [end_id(tokenizer)] if running else []  # an answer to a question has its own
        examples.append(example_of(record, [*tokens, *ending], boundary, index, max_length))
    return examples


def _encoded(
    record: Record, answer: str, tokenizer, prompt_format: PromptFormat, prompts: Prompts
) -> tuple[list[int], int, int]:
    """Tokens of the record's prompt and an answer, where the prompt begins, and where the answer does.

    `prompts`: those of questions encoded before, since a question is mostly asked for several answers.
    """
    if record.form == "question":
        asked = record.prompt, record.opening
        if (prompt := prompts.get(asked)) is None:
            prompt = prompt_format.encode_prompt(tokenizer, record.prompt)
            if record.opening:
                prompt = [*prompt, *prompt_format.encode_opening(tokenizer, record.opening)]
            prompts[asked] = prompt
        found = prompt_format.encode_answer(tokenizer, answer, record.opening)
        return [*prompt, *found], 0, len(prompt)
    try:
        return prompt_format.encode_text(tokenizer, record.prompt, answer)
    except UserError as error:
        raise UserError(f"record {record.id!r}: {error}") from None


def example_of(record: Record, tokens: list[int], labels_from: int, index: int, max_length: int) -> Example:
    """The record's example. `UserError` if it does not fit into `max_length` tokens."""
    if len(tokens) > max_length:
        raise UserError(
            f"record {record.id!r} needs {len(tokens)} tokens but the context holds {max_length}: "
            f"{record.prompt[:60]!r}. Raise `max_length` (up to the model's context) or shorten the record."
        )
    return Example(tuple(tokens), labels_from, index)
