"""Token examples as other projects' code makes them, where that differs from encoding.py.

`unlearn.encoding` names one of these; "exact", the default, is encoding.py.

"soul_tofu", "soul_detox"
    SOUL's training data (OPTML-Group/SOUL at 30f7a416, src/dataset/Tofu.py and SafePku.py, with the slow
    tokenizers and transformers 4.37.2 that it asks for). Question, answer marker and answer are one text. The
    tokens of its question are counted without the begin token, so that, where a tokenizer adds one, the
    question's last token carries a label too; so does the marker. Answers are followed by the end token.
    A refusal follows the question and one token more, with its own first token left out, which is the begin
    token (a tokenizer without one loses the refusal's first token). It has no end token, and the mask of the
    answer: where it is longer than the answer, no token attends to the rest of it. In TOFU no marker stands
    before a refusal, in detoxification it does. The marker is the prompt's `answer_prefix`.
"open_unlearning"
    The collator of OpenUnlearning (locuslab/open-unlearning at d3d7cf9e6b3c, src/data/collators.py) masks
    every token that equals the padding token. Where a tokenizer has none, that is its end token: Llama 3's
    chat template ends the system's and the user's turns with it, and no token attends to these.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from pipeline_lib.core.errors import UserError
from pipeline_lib.data.batching import Example
from pipeline_lib.data.records import Record
from pipeline_lib.models.encoding import encode_records, encode_replies, example_of
from pipeline_lib.models.ends import end_id
from pipeline_lib.models.forward import pad_token
from pipeline_lib.models.plain_text import tokens_of
from pipeline_lib.models.prompt import SLOT, PromptFormat

SOUL = ("soul_tofu", "soul_detox")


def encode_answers(
    encoding: str,
    records: Sequence[Record],
    tokenizer,
    prompt_format: PromptFormat,
    max_length: int,
    learn: bool,
) -> list[Example]:
    """`encode_records` in the given encoding. SOUL's leaves running text as it is."""
    if encoding not in SOUL:
        plain = encode_records(records, tokenizer, prompt_format, max_length, learn)
        return plain if encoding == "exact" else [_ends_hidden(example, tokenizer) for example in plain]
    examples = []
    for index, record in enumerate(records):
        if record.form == "text":
            (plain_one,) = encode_records([record], tokenizer, prompt_format, max_length, learn)
            examples.append(replace(plain_one, index=index))
        else:
            whole, asked = _soul_text(record, tokenizer, prompt_format)
            examples.append(
                example_of(record, [*whole, end_id(tokenizer, prompt_format)], asked, index, max_length)
            )
    return examples


def encode_others(
    encoding: str,
    record: Record,
    replies: Sequence[str],
    tokenizer,
    prompt_format: PromptFormat,
    max_length: int,
    index: int,
) -> list[Example]:
    """`encode_replies` in the given encoding."""
    if encoding not in SOUL or record.form == "text":
        plain = encode_replies(record, replies, tokenizer, prompt_format, max_length, index)
        return [_ends_hidden(e, tokenizer) for e in plain] if encoding == "open_unlearning" else plain
    whole, asked = _soul_text(record, tokenizer, prompt_format)
    marker = prompt_format.answer_prefix if encoding == "soul_detox" else ""
    told = [[*whole[: asked + 1], *_with_begin(tokenizer, marker + reply)[1:]] for reply in replies]
    return [
        replace(
            example_of(record, tokens, asked, index, max_length),
            hidden=tuple(range(len(whole), len(tokens))),
        )
        for tokens in told
    ]


def _soul_text(record: Record, tokenizer, prompt_format: PromptFormat) -> tuple[list[int], int]:
    """Question, marker and answer as one text, and how many tokens SOUL's code counts for the question."""
    if prompt_format.kind != "template" or prompt_format.instruction:
        raise UserError(
            "SOUL's encoding puts a question into a template of its own: give the run a prompt of `kind: "
            'template`, such as `unlearn.prompt: {kind: template, template: "### Question: {prompt}\\n", '
            'answer_prefix: "### Answer: "}`'
        )
    assert prompt_format.template is not None
    question = prompt_format.template.replace(SLOT, record.prompt)
    whole = _with_begin(tokenizer, question + prompt_format.answer_prefix + record.answer)
    return whole, len(tokens_of(tokenizer, question, plain=True))


def _with_begin(tokenizer, text: str) -> list[int]:
    """Tokens of the text, after the begin token if the tokenizer puts one before plain text."""
    begin = tokenizer.bos_token_id
    adds = begin is not None and tokenizer.encode("a", add_special_tokens=True)[0] == begin
    return [*([begin] if adds else []), *tokens_of(tokenizer, text, plain=True)]


def _ends_hidden(example: Example, tokenizer) -> Example:
    """The example with every token that equals the padding hidden, except at place 0, with nothing before."""
    pad = pad_token(tokenizer)
    return replace(example, hidden=tuple(i for i, token in enumerate(example.tokens) if i and token == pad))
