"""A tokenizer's chat template: which one is used, its rendering on the study's date, and its failures.

A template is somebody else's program. Whatever it raises becomes one message with the cure.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from pipeline_lib.core.errors import UserError
from pipeline_lib.models.hub import first_line
from pipeline_lib.models.study_date import DEFAULT, directives

Found = TypeVar("Found")

CURE = (
    "Use kind 'template' with the text around the question in prompt.template, such as "
    "'Question: {prompt}\\nAnswer:'"
)
SHOWN = 300  # characters of a template's text in a message

# transformers binds `strftime_now` to the machine's clock, and passes templates only data, no function of
# ours. A macro of that name before the template takes precedence and reads the data.
CLOCK = (
    "{%- macro strftime_now(format) -%}{%- set told = namespace(text=format) -%}"
    "{%- for pair in study_clock -%}"
    "{%- set told.text = told.text | replace(pair[0], pair[1]) -%}"
    "{%- endfor -%}{{- told.text -}}{%- endmacro +%}"
)


def once(find: Callable[[Any, Any], Found]) -> Callable[[Any, Any], Found]:
    """Keep the result of `find(tokenizer, prompt_format)` as long as both stay as they are."""
    known: WeakKeyDictionary[Any, dict[Any, Found]] = WeakKeyDictionary()

    @wraps(find)
    def remembered(tokenizer, prompt_format) -> Found:
        template = getattr(tokenizer, "chat_template", None)
        named = tuple(sorted(template.items())) if isinstance(template, dict) else template
        tokens = tuple(getattr(tokenizer, "special_tokens_map", {}).items())
        own, key = known.setdefault(tokenizer, {}), (prompt_format, named, str(tokens))
        if key not in own:
            own[key] = find(tokenizer, prompt_format)
        return own[key]

    return remembered


def chat_template(tokenizer, name: str | None) -> str:
    """The tokenizer's template called `name`; None: its "default", or the only text if all are the same.

    Raises `UserError` if there is none, or if there are several and it is unclear which is meant.
    """
    found = tokenizer.chat_template
    if not found:
        raise UserError(f"prompt.kind is 'chat' but the model's tokenizer has no chat template. {CURE}")
    if not isinstance(found, dict):
        if name is not None:
            raise UserError(
                f"prompt.chat_template is {name!r}, but the model's tokenizer has one template, without a "
                "name; leave the setting out"
            )
        return found
    if name is None and len(set(found.values())) == 1:
        return next(iter(found.values()))
    wanted = "default" if name is None else name
    if wanted not in found:
        names = ", ".join(repr(each)[:60] for each in sorted(found))
        problem = "and none of them is called 'default'" if name is None else f"and none is called {name!r}"
        raise UserError(
            f"the model's tokenizer has several chat templates ({names}), {problem}. Set "
            "prompt.chat_template to the name of the one that the model is to be asked with"
        )
    return found[wanted]


def conversation(prompt_format, *turns: str) -> list[dict[str, str]]:
    """Messages: the system message, if there is one, then `turns`, of user and assistant in turn."""
    parts = [part for part in (prompt_format.instruction, prompt_format.system) if part]
    system = "\n\n".join(parts) if parts else prompt_format.system  # an empty system message is not none
    first = [] if system is None else [{"role": "system", "content": system}]
    return [
        *first,
        *({"role": "assistant" if i % 2 else "user", "content": turn} for i, turn in enumerate(turns)),
    ]


def render(tokenizer, prompt_format, *turns: str, ask: bool = True) -> str:
    """The conversation as text; with `ask`, up to the beginning of the assistant's next turn.

    Raises `UserError` for whatever the template raises.
    """
    template = chat_template(tokenizer, prompt_format.chat_template)
    date = prompt_format.date or DEFAULT
    try:
        return tokenizer.apply_chat_template(
            conversation(prompt_format, *turns),
            chat_template=CLOCK + template,
            add_generation_prompt=ask,
            tokenize=False,
            date_string=date,
            study_clock=directives(date),
        )
    except Exception as error:  # a template can divide by zero, or call itself
        told = f"{type(error).__name__}, {first_line(error)!r}"[:SHOWN]
        hint = ""
        if prompt_format.instruction:
            hint = "If it knows no system message, in-context unlearning cannot instruct it in a chat. "
        elif prompt_format.system is not None:
            hint = "If it knows no system message, remove prompt.system. "
        raise UserError(f"the model's chat template refused the prompt ({told}). {hint}{CURE}") from error
