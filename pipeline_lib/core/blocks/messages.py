"""Turns the validator's findings into lines for the author of the suite: where, found, allowed."""

from __future__ import annotations

import datetime
import re
from collections.abc import Collection
from typing import Any, get_args, get_origin

from pydantic import ValidationError

from pipeline_lib.core.blocks import (
    PATTERNS,
    Block,
    Fault,
    Faults,
    choices,
    plain,
    suggestion,
    takes_auto,
)

_EXPECTED = {  # beginning of the validator's error type -> what the field takes
    "float_": "expected a number",
    "int_": "expected a whole number",
    "bool_": "expected true or false",
    "string_type": "expected text",
    "string_unicode": "expected text; this holds half a character",
    "list_": "expected a list, such as [a, b]",
    "dict_": "expected a block of `name: value` lines",
    "model_": "expected a block of `name: value` lines",
    "finite_number": "expected a finite number",
    "too_short": "must not be empty",
    "string_too_short": "must not be empty",
    "string_too_long": "is too long",
    "invalid_key": "a key must be text; put it in quotes",
}
_UNQUOTED = (bool, int, float, datetime.date)  # what YAML makes of 3, yes or 2024-01-31
_LIMITS = {
    "greater_than": ("must be greater than", "gt"),
    "greater_than_equal": ("must be at least", "ge"),
    "less_than": ("must be smaller than", "lt"),
    "less_than_equal": ("must be at most", "le"),
}


def describe(
    error: ValidationError, root: type[Block], extra: Collection[str] = (), settled: Collection[str] = ()
) -> list[Fault]:
    """(path as it appears in the file, message) for each fault of a `root` block.

    Where a message offers the keys of `root`, it also offers the `extra` ones, and leaves out the `settled`
    ones. A list of allowed keys is written once for all the unknown keys of one block.
    """
    faults: list[Fault] = []
    listed: set[tuple[str, ...]] = set()
    for found in error.errors(include_url=False):
        path, kind, owner = _walk(found["loc"], root)
        cause = found.get("ctx", {}).get("error")
        if isinstance(cause, Faults):
            faults += [(".".join([*path, field]), message) for field, message in cause.faults]
        else:
            offered = set(owner.model_fields) - set(settled if owner is root else ()) if owner else set()
            message = _message(found, path, kind, offered | set(extra if owner is root else ()))
            if found["type"] == "union_tag_invalid":
                path.append(_choice(found))
            if found["type"] == "extra_forbidden" and "; allowed: " in message:
                if tuple(path[:-1]) in listed:
                    message = f"{message.split('; allowed: ')[0]}; the keys allowed here are listed above"
                listed.add(tuple(path[:-1]))
            faults.append((".".join(path), message))
    return faults


def _walk(location: tuple[int | str, ...], kind: Any) -> tuple[list[str], Any, type[Block] | None]:
    """The path in the file, the type of the field there, and the block that the last key belongs to.

    The validator's location also contains members of unions and markers of faulty keys, which the file does
    not.
    """
    path: list[str] = []
    owner: type[Block] | None = None
    in_mapping = False
    for key in location:
        kind = plain(kind)
        if in_mapping and key == "[key]":
            break
        in_mapping = get_origin(kind) is dict
        members = choices(kind)
        if members:
            kind = members[str(key)]
            continue
        if takes_auto(kind):  # the key says which of the two was tried
            continue
        path.append(_key(key))
        if isinstance(kind, type) and issubclass(kind, Block):
            owner = kind
            field = kind.model_fields.get(str(key))
            kind = field.annotation if field else None
        else:
            owner = None
            kind = (get_args(kind) or (None,))[-1]
    return path, plain(kind), owner


def _key(key: int | str) -> str:
    """A key as part of a path; a key with spaces, dots or line ends is quoted, a long one cut."""
    return str(key) if isinstance(key, int) or re.fullmatch(r"[\w-]{1,64}", key) else show(key)


def _message(found: Any, path: list[str], kind: Any, offered: Collection[str]) -> str:
    name, context, value = found["type"], found.get("ctx", {}), found["input"]
    if name == "missing":
        return "is missing and has no default"
    if name == "extra_forbidden":
        key = str(found["loc"][-1])  # as in the file; the path may have it quoted
        return f"unknown key {show(key)}; {suggestion(key, offered)}"
    if name == "union_tag_not_found":
        key = _choice(found)
        why = f", because {path[-1]} is not the name of one" if key == "kind" else ""
        return f"needs the key `{key}`{why}; {suggestion(path[-1], choices(kind))}"
    if name == "union_tag_invalid":
        tag = value[_choice(found)]
        return f"found {show(tag)}; {suggestion(tag, choices(kind))}"
    if name == "literal_error":
        return f"found {show(value)}; {suggestion(value, get_args(kind))}"
    quotes = "; put it in quotes" if name == "string_type" and isinstance(value, _UNQUOTED) else ""
    auto = ", or auto" if takes_auto(kind) else ""
    return f"found {show(value)}; {_expected(name, context) or found['msg']}{quotes}{auto}"


def _choice(found: Any) -> str:
    """The key that chooses among blocks: `kind` or `source`."""
    return found["ctx"]["discriminator"].strip("'")


def _expected(name: str, context: dict[str, Any]) -> str | None:
    if name == "string_pattern_mismatch":
        return PATTERNS[context["pattern"]]
    if name in _LIMITS:
        words, key = _LIMITS[name]
        return f"{words} {context[key]:.15g}"
    return next((text for start, text in _EXPECTED.items() if name.startswith(start)), None)


def show(value: Any, width: int = 80) -> str:
    """A value as its author would recognise it: YAML's words, no Python types, cut to `width`."""
    if value is None or isinstance(value, bool):
        return {None: "nothing", True: "true (or yes, on)", False: "false (or no, off)"}[value]
    if isinstance(value, dict):
        return "a block" if value else "an empty block"
    if isinstance(value, list | tuple | set):
        return "a list" if value else "an empty list"
    if isinstance(value, datetime.date):
        return f"the date {value}"
    try:
        text = repr(value)
    except ValueError:  # Python does not print whole numbers of more than 4300 digits
        return "a number of thousands of digits"
    return text if len(text) <= width else text[: width - 3] + "..."
