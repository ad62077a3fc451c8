"""Text to tokens and back: what a tokenizer puts before a text, and text that spells control tokens."""

from __future__ import annotations

from collections.abc import Collection, Sequence


def tokens_of(tokenizer, text: str, plain: bool = False) -> list[int]:
    """Tokens of `text` alone; with `plain`, text that spells a special token stays text."""
    return tokenizer.encode(text, add_special_tokens=False, split_special_tokens=plain)


def plain_tokens(tokenizer, text: str, control: Collection[str] = (), inside: bool = False) -> list[int]:
    """Tokens of `text` in which neither special tokens nor those of `control` are recognised.

    `inside`: it is part of a longer text, so a tokenizer that puts a space before every text puts none.
    """
    for token in control:
        place = text.find(token)
        if place >= 0 and len(token) > 1:  # cut in two, it is no longer a token
            head = plain_tokens(tokenizer, text[: place + 1], control, inside)
            return [*head, *plain_tokens(tokenizer, text[place + 1 :], control, True)]
    return following(tokenizer, text, plain=True) if inside else tokens_of(tokenizer, text, plain=True)


def following(tokenizer, text: str, plain: bool = False) -> list[int]:
    """Tokens of `text` within a longer text: it is put after a character, whose own tokens are removed again.

    The character is a line's end, or a letter where the text begins with a line's end that would merge with
    it.
    """
    for sign in ("\n", "a"):
        before, whole = tokens_of(tokenizer, sign, plain), tokens_of(tokenizer, sign + text, plain)
        if whole[: len(before)] == before:
            return whole[len(before) :]
    return tokens_of(tokenizer, text, plain)


def own_begin(tokenizer) -> list[int]:
    """What the tokenizer itself puts before every text: a begin token, in some families more, or nothing."""
    bare = tokenizer.encode("a", add_special_tokens=False, split_special_tokens=True)
    whole = tokenizer.encode("a", add_special_tokens=True, split_special_tokens=True)
    places = [i for i in range(len(whole)) if whole[i : i + len(bare)] == bare]
    return list(whole[: places[0]]) if places else []


def special_tokens(tokenizer) -> list[str]:
    return [token.content for token in tokenizer.added_tokens_decoder.values() if token.special]


def control_tokens(tokenizer, template: str) -> list[str]:
    """Added tokens that are not marked as special, yet have a meaning because `template` uses them."""
    added = [token.content for token in tokenizer.added_tokens_decoder.values() if not token.special]
    return [token for token in added if token.strip() and token in template]


def decoded(tokenizer, ids: Sequence[int], special: bool = False) -> str:
    return tokenizer.decode(ids, skip_special_tokens=not special, clean_up_tokenization_spaces=False)
