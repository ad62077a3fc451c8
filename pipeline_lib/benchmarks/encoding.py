"""Text to tokens as lm-evaluation-harness does it, so that scores are comparable to the last digit."""

from __future__ import annotations

from collections.abc import Sequence

from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

from pipeline_lib.core.errors import UserError
from pipeline_lib.models.forward import context_length

DEFAULT_LENGTH = 2048  # where neither model nor tokenizer names a limit
NO_LIMIT = 10**9  # tokenizers without a limit name a number of thirty digits

Pair = tuple[list[int], list[int]]  # tokens that are given, tokens that are scored


def first_token(tokenizer) -> int:
    """What stands before a text that has no context: the begin token, else the end token."""
    if tokenizer.bos_token_id is not None:
        return tokenizer.bos_token_id
    if tokenizer.eos_token_id is None:
        raise UserError("the tokenizer has neither a begin nor an end token; a text needs one before it")
    return tokenizer.eos_token_id


def text_tokens(tokenizer, text: str, special: bool | None = None) -> list[int]:
    """Tokens of a text with what the tokenizer puts before it (a begin token, if any), once.

    Some tokenizers also put an end token after it, which would be scored as if it were part of the answer:
    that is an error.
    """
    if special is None:
        special = not text.startswith(tokenizer.decode([first_token(tokenizer)]))
    tokens = tokenizer.encode(text, add_special_tokens=special)
    if special and len(tokens) > 1 and tokens[-1] == tokenizer.eos_token_id:
        raise UserError(
            "the tokenizer puts an end token after every text, so what follows a context cannot be scored. "
            "Set `add_eos_token` to false in its tokenizer_config.json."
        )
    return tokens


def encode_pair(tokenizer, context: str, continuation: str) -> Pair:
    """Tokens of the context and of the continuation after it.

    Spaces at the end of the context belong to the continuation, since tokenizers join a space to the word
    after it. Both are tokenised together; what lies beyond the context's own number of tokens is scored.
    """
    stripped = context.rstrip()
    continuation = context[len(stripped) :] + continuation
    if not stripped:
        first = first_token(tokenizer)
        tokens = text_tokens(tokenizer, continuation, special=False)
        return ([first], tokens) if tokens[:1] != [first] else (tokens[:1], tokens[1:])
    whole = text_tokens(tokenizer, stripped + continuation)
    given = text_tokens(tokenizer, stripped)
    return given, whole[len(given) :]


def fit(pair: Pair, max_length: int, where: str) -> tuple[Pair, bool]:
    """The pair with its context cut from the left to what the model can read, and whether it was cut.

    The last token is predicted but not read, so `max_length + 1` tokens fit.
    """
    given, scored = pair
    if not scored:
        raise UserError(
            f"{where}: nothing is left to score: the tokenizer gives context and continuation together no "
            "more tokens than the context alone. Change the continuation or leave the question out."
        )
    if len(scored) > max_length:
        raise UserError(
            f"{where}: the continuation has {len(scored)} tokens, but the model reads {max_length} at most. "
            "Leave the question out or take a model with a longer context."
        )
    room = max_length + 1 - len(scored)
    return (given[-room:], scored), len(given) > room


def rolling_pairs(tokens: Sequence[int], first: int, max_length: int) -> list[Pair]:
    """Windows that predict every token of a text once, each with one token of context at least.

    The first window starts after the token `first`; each further one predicts the next `max_length` tokens.
    The last window is filled up with context to the left.
    """
    return list(map(make_disjoint_window, get_rolling_token_windows(list(tokens), first, max_length, 1)))


def longest_input(model, tokenizer) -> int:
    """Tokens the model can read at once."""
    length = context_length(model)
    if length is None and (tokenizer.model_max_length or NO_LIMIT) < NO_LIMIT:
        length = int(tokenizer.model_max_length)
    return DEFAULT_LENGTH if length is None else length
