"""Where an answer ends: every token that says so, and the one that a model is taught.

A published model names them in up to four places: its tokenizer (eos), `generation_config.json` and
`config.json` (one or several), and the chat template, which closes a turn with a token that need not be eos
(Llama 3 `<|eot_id|>`, Gemma `<end_of_turn>`, Phi-3 `<|end|>`). Answers stop at any of them, as with
`transformers.generate`; in a chat the turn's end is what is learned.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from pipeline_lib.core.errors import UserError
from pipeline_lib.models.template import once, render

QUESTION, ANSWER, FURTHER = "question4711", "answer4712", "question4713"
USUAL = ("</s>", "<|endoftext|>", "<|end_of_text|>", "<|im_end|>", "<|eot_id|>", "<eos>", "<end_of_turn>")


def end_id(tokenizer, prompt_format=None) -> int:
    """The token that ends an answer in training: of a chat its turn's end, else the tokenizer's end token.

    Raises `UserError` where there is none.
    """
    turn = None if prompt_format is None else turn_end(tokenizer, prompt_format)
    if turn is not None:
        return turn
    if tokenizer.eos_token_id is None:
        raise UserError(without_end(tokenizer))
    return tokenizer.eos_token_id


def answer_ends(tokenizer, prompt_format=None) -> frozenset[int]:
    """All tokens at which an answer stops. `prompt_format` None: for text without one."""
    turn = None if prompt_format is None else turn_end(tokenizer, prompt_format)
    found = {tokenizer.eos_token_id, turn, *getattr(tokenizer, "published_ends", ())}
    return frozenset(token for token in found if token is not None)


def all_ends(tokenizer, prompt_format) -> list[int]:
    """`answer_ends`, the tokenizer's own first, for a model folder in which other programs read them."""
    first = tokenizer.eos_token_id
    return [first, *sorted(answer_ends(tokenizer, prompt_format) - {first})]


def named_ends(model, tokenizer) -> set[int]:
    """End tokens that the model's own files name, of those that it has embeddings for.

    `generation_config` counts as it is written, as in `transformers.generate`. `config` counts for control
    tokens of the tokenizer alone: where nobody set it, it holds a number of another family.
    """
    rows = model.get_input_embeddings().num_embeddings
    written, unset = (getattr(each, "eos_token_id", None) for each in (model.config, type(model.config)))
    named = _numbers(model.generation_config and model.generation_config.eos_token_id)
    named |= _numbers(written) & set(tokenizer.added_tokens_decoder) if written != unset else set()
    return {token for token in named if 0 <= token < rows}


def publish_ends(model, tokenizer) -> list[int]:
    """The tokenizer's end token, then those that the model's files add to it; kept with the tokenizer."""
    others = sorted(named_ends(model, tokenizer) - {tokenizer.eos_token_id})
    tokenizer.published_ends = tuple(others)
    return [tokenizer.eos_token_id, *others]


def as_written(ends: Sequence[int]) -> int | list[int]:
    """End tokens as `generation_config.json` holds them: a number, or a list of several."""
    return ends[0] if len(ends) == 1 else list(ends)


def without_end(tokenizer, named: Collection[int] = ()) -> str:
    """What is wrong with a tokenizer that has no end token, and how it gets one.

    `named`: end tokens by the model's own files.
    """
    known = tokenizer.get_vocab()
    own = [token for token, number in known.items() if number in named]
    likely = [token for token in USUAL if token in known and token not in own]
    hints = [
        f"{says} {' and '.join(map(repr, tokens))}"
        for says, tokens in (("the model's own files name", own), ("it knows", likely))
        if tokens
    ]
    return "; ".join(
        [
            "the tokenizer names no end token, so a model could not learn where an answer ends. Name the one "
            'that the model was trained with in tokenizer_config.json, as `"eos_token": "</s>"`',
            *hints,
        ]
    )


@once
def turn_end(tokenizer, prompt_format) -> int | None:
    """The control token with which the chat template ends an assistant's turn; None where there is none.

    It is what follows an answer in the rendered conversation. Some templates close a turn only when another
    follows, so a second conversation goes on; what stands before its next question is no end.
    """
    if prompt_format.kind != "chat":
        return None
    for turns in ((QUESTION, ANSWER), (QUESTION, ANSWER, FURTHER)):
        try:
            text = render(tokenizer, prompt_format, *turns, ask=False)
        except UserError:  # refuses answers, or everything; the prompt's own check says so
            continue
        before, found, after = text.rpartition(ANSWER)
        if len(turns) > 2:
            after = _without_header(after.partition(FURTHER)[0], before.partition(QUESTION)[0])
        end = _first_control(tokenizer, after) if found else None
        if end is not None:
            return end
    return None


def _without_header(between: str, begin: str) -> str:
    """`between` an answer and the next question without what also stands before the first question."""
    shared = 0
    while shared < min(len(between), len(begin)) and between[-shared - 1] == begin[-shared - 1]:
        shared += 1
    return between[: len(between) - shared]


def _first_control(tokenizer, text: str) -> int | None:
    """The first control token of `text`, one marked as special if there is one; spaces are none."""
    no_end = {tokenizer.bos_token_id, tokenizer.unk_token_id} - {tokenizer.eos_token_id}
    added = tokenizer.added_tokens_decoder
    found = [
        token
        for token in tokenizer.encode(text, add_special_tokens=False)
        if token in added and token not in no_end and added[token].content.strip()
    ]
    return next((token for token in found if added[token].special), next(iter(found), None))


def _numbers(value: Any) -> set[int]:
    values = value if isinstance(value, list | tuple) else [value]
    return {each for each in values if isinstance(each, int) and not isinstance(each, bool)}
