"""Where an answer ends: every token that ends one, and the token that a model is taught.

A published model names end tokens in up to four places: its tokenizer (eos), `generation_config.json` and
`config.json` (one or several), and the chat template, which closes a turn with a token that need not be eos
(Llama 3 `<|eot_id|>`, Gemma `<end_of_turn>`, Phi-3 `<|end|>`). Answers stop at any of them, as with
`transformers.generate`; in a chat the model learns the token that ends the turn.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import takewhile
from typing import Any

from pipeline_lib.core.errors import UserError
from pipeline_lib.models.template import once, render

QUESTION, ANSWER, FURTHER = "question4711", "answer4712", "question4713"
USUAL = ("</s>", "<|endoftext|>", "<|end_of_text|>", "<|im_end|>", "<|eot_id|>", "<eos>", "<end_of_turn>")


def end_id(tokenizer, prompt_format=None) -> int:
    """The token that ends an answer in training: in a chat the turn's end, else the tokenizer's end token.

    Raises `UserError` if there is none.
    """
    turn = None if prompt_format is None else turn_end(tokenizer, prompt_format)
    end = tokenizer.eos_token_id if turn is None else turn
    if end is None:
        raise UserError(without_end(tokenizer))
    return end


def answer_ends(tokenizer, prompt_format=None) -> frozenset[int]:
    """All tokens at which an answer stops. `prompt_format`: None for running text."""
    turn = None if prompt_format is None else turn_end(tokenizer, prompt_format)
    found = {tokenizer.eos_token_id, turn, *getattr(tokenizer, "published_ends", ())}
    return frozenset(token for token in found if token is not None)


def all_ends(tokenizer, prompt_format) -> list[int]:
    """`answer_ends`, the tokenizer's own first, for a model folder that other programs read."""
    first = tokenizer.eos_token_id
    return [first, *sorted(answer_ends(tokenizer, prompt_format) - {first})]


def named_ends(model, tokenizer) -> set[int]:
    """End tokens that the model's own files name and that it has embeddings for.

    `generation_config` counts as it is written, as in `transformers.generate`. In `config` only control
    tokens of the tokenizer count: where nobody set the value, it is a number of another family.
    """
    rows = model.get_input_embeddings().num_embeddings
    written, unset = (getattr(each, "eos_token_id", None) for each in (model.config, type(model.config)))
    named = _numbers(model.generation_config and model.generation_config.eos_token_id)
    named |= _numbers(written) & set(tokenizer.added_tokens_decoder) if written != unset else set()
    return {token for token in named if 0 <= token < rows}


def publish_ends(model, tokenizer) -> list[int]:
    """The tokenizer's end token, then those that the model's files add; stored on the tokenizer."""
    others = sorted(named_ends(model, tokenizer) - {tokenizer.eos_token_id})
    tokenizer.published_ends = tuple(others)
    return [tokenizer.eos_token_id, *others]


def as_written(ends: Sequence[int]) -> int | list[int]:
    """End tokens as `generation_config.json` holds them: a number, or a list of several."""
    return ends[0] if len(ends) == 1 else list(ends)


def without_end(tokenizer, named: Collection[int] = ()) -> str:
    """The message about a tokenizer without an end token, and how to give it one.

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
    told = (
        "the tokenizer names no end token, so a model could not learn where an answer ends. Name the one "
        'that the model was trained with in tokenizer_config.json, as `"eos_token": "</s>"`'
    )
    return "; ".join([told, *hints])


@once
def turn_end(tokenizer, prompt_format) -> int | None:
    """The control token with which the chat template ends an assistant's turn; None if there is none.

    It is what follows an answer in the rendered conversation. Some templates close a turn only when another
    follows, so a second conversation has a further question; the header before that question is not an end.
    """
    if prompt_format.kind != "chat":
        return None
    for turns in ((QUESTION, ANSWER), (QUESTION, ANSWER, FURTHER)):
        try:
            text = render(tokenizer, prompt_format, *turns, ask=False)
        except UserError:  # it refuses answers, or everything, which `check_prompt` reports
            continue
        before, found, after = text.rpartition(ANSWER)
        if len(turns) > 2:
            after = _without_header(after.partition(FURTHER)[0], before.partition(QUESTION)[0])
        if found and (end := _first_control(tokenizer, after)) is not None:
            return end
    return None


def _without_header(between: str, begin: str) -> str:
    """`between` an answer and the next question, without the end that it shares with `begin`."""
    pairs = zip(reversed(between), reversed(begin), strict=False)
    return between[: len(between) - sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))]


def _first_control(tokenizer, text: str) -> int | None:
    """The first control token of `text`, if possible one marked as special; spaces do not count."""
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
