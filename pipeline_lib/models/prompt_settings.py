"""How prompts are put to a model, as a suite says it. Readable without torch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

from pydantic import Field, model_validator

from pipeline_lib.core.blocks import Block, Faults, Switch, Text
from pipeline_lib.core.blocks.messages import show
from pipeline_lib.core.errors import UserError
from pipeline_lib.models.study_date import DEFAULT, parse_date

TEMPLATE = "Question: {prompt}\nAnswer:"


def prompt_faults(prompt: Any) -> Iterator[tuple[str, str]]:
    """(setting, message) for each setting of a prompt or `PromptFormat` that does not fit its kind."""
    if prompt.kind == "template":
        if (prompt.template or "").count("{prompt}") != 1:
            yield "template", f"found {show(prompt.template)}; must hold {{prompt}} exactly once"
        for name in ("system", "date", "chat_template"):
            if getattr(prompt, name) is not None:
                yield name, "goes with `kind: chat`; write it into `template` instead"
        return
    if prompt.template is not None:
        yield "template", "goes with `kind: template`, and this prompt is of kind chat"
    if prompt.date is not None:
        try:
            parse_date(prompt.date)
        except UserError as error:
            yield "date", str(error)


def _none(value: object) -> bool:
    return value is None


class PromptSettings(Block):
    """How a prompt becomes tokens: an explicit template, or the tokenizer's chat template."""

    kind: Literal["template", "chat"] = "template"
    template: Text | None = Field(
        None, description=f"Text around {{prompt}}; template only, where the default is {TEMPLATE!r}"
    )
    system: str | None = Field(None, description="System message; chat only")
    answer_prefix: str = Field(
        "", description="Text that is learned as the answer's beginning; a space by default for a template"
    )
    add_bos: Switch | None = Field(
        None,
        description="Begin with the tokenizer's begin token; default: as the tokenizer itself does before "
        "text. One that a template writes is not doubled",
        exclude_if=_none,
    )
    date: Text | None = Field(
        None,
        description=f"The day that a chat template prints; chat only, where the default is {DEFAULT!r}. "
        "OpenUnlearning takes 10 Apr 2025",
        exclude_if=_none,
    )
    chat_template: Text | None = Field(
        None,
        description="Name of one of the tokenizer's chat templates, where it has several; chat only",
        exclude_if=_none,
    )

    @model_validator(mode="before")
    @classmethod
    def _defaults_of_kind(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        kind = value.get("kind", cls.model_fields["kind"].default)
        template = {"template": TEMPLATE, "answer_prefix": " "}
        return {**(template if kind == "template" else {"date": DEFAULT}), **value}

    @model_validator(mode="after")
    def _fits_kind(self) -> PromptSettings:
        if faults := list(prompt_faults(self)):
            raise Faults(faults)
        return self


class PretrainedPromptSettings(PromptSettings):
    """How a prompt becomes tokens: the chat template that the tokenizer brings, or a template given here."""

    kind: Literal["template", "chat"] = "chat"
