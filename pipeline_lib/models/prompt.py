"""How a prompt and an answer become tokens: the model's chat template, or a template of the suite.

Prompt and answer are tokenised apart, so the boundary between them is exact: the prompt's tokens
carry no label, the answer's tokens and one end token do. Where a model expects a space between the
two ("Answer:" + " Paris"), the space belongs to the answer: `answer_prefix`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from pipeline_lib.errors import UserError

SLOT = "{prompt}"

# Some chat templates (Llama 3.2) print today's date into the system message unless one is given;
# a fixed date keeps a study's tokens the same on every day. Templates without a date ignore it.
TEMPLATE_DATE = "26 Jul 2024"


@dataclass(frozen=True)
class PromptFormat:
    """`kind` "chat" uses the tokenizer's chat template, "template" the text in `template`.

    `system` (chat only): the system message; None leaves it to the chat template, which may add one
    of its own, and "" asks for an empty one. `add_bos` (template only): begin with the tokenizer's
    begin token; a chat template brings its own.
    """

    kind: str
    template: str | None = None
    system: str | None = None
    answer_prefix: str = ""
    add_bos: bool = False

    def __post_init__(self) -> None:
        if self.kind not in ("chat", "template"):
            raise UserError(f"prompt.kind must be 'chat' or 'template', found {self.kind!r}")
        if self.kind == "chat" and (self.template is not None or self.add_bos):
            raise UserError(
                "prompt.template and prompt.add_bos go with kind 'template'; remove them or change kind"
            )
        if self.kind == "template" and self.system is not None:
            raise UserError("prompt.system goes with kind 'chat'; write it into prompt.template instead")
        if self.kind == "template" and (self.template or "").count(SLOT) != 1:
            raise UserError(f"prompt.template must contain {SLOT} exactly once, found {self.template!r}")

    def encode_prompt(self, tokenizer, prompt: str) -> list[int]:
        """Tokens of everything before the answer.

        Control tokens come from the template only. A prompt that spells one (`<|im_end|>`) is cut out
        and tokenised as plain text; in that rare case no merge crosses the template's edges. Every
        other prompt is tokenised in one piece with the template, as the model saw it in training.
        """
        bos = self._bos(tokenizer)
        if not any(token in prompt for token in _control_tokens(tokenizer)):
            return bos + _tokens(tokenizer, self._text(tokenizer, prompt))
        # The last slot is the user's: a system message may hold the same text, and comes first.
        head, _, tail = self._text(tokenizer, SLOT).rpartition(SLOT)
        middle = _tokens(tokenizer, prompt, plain=True)
        return bos + _tokens(tokenizer, head) + middle + _tokens(tokenizer, tail)

    def encode_answer(self, tokenizer, answer: str) -> list[int]:
        """Tokens of prefix and answer as plain text, then the end token: the model learns to stop."""
        return [*_tokens(tokenizer, self.answer_prefix + answer, plain=True), _end_id(tokenizer)]

    def decode_answer(self, tokenizer, ids: Sequence[int]) -> str:
        """Text of generated tokens up to the first end token, without `answer_prefix` and control tokens."""
        kept = list(ids)
        end = _end_id(tokenizer)
        if end in kept:
            kept = kept[: kept.index(end)]
        text = tokenizer.decode(kept, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return text.removeprefix(self.answer_prefix)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> PromptFormat:
        allowed = [field.name for field in fields(cls)]
        unknown = sorted(set(values) - set(allowed))
        if unknown or "kind" not in values:
            problem = f"unknown field {unknown[0]!r}" if unknown else "`kind` is missing"
            raise UserError(f"prompt: {problem}; allowed: {', '.join(allowed)}")
        return cls(**values)

    def _bos(self, tokenizer) -> list[int]:
        if not self.add_bos:
            return []
        if tokenizer.bos_token_id is None:
            raise UserError("prompt.add_bos is true but the tokenizer has no begin token; set it to false")
        return [tokenizer.bos_token_id]

    def _text(self, tokenizer, prompt: str) -> str:
        """The whole prompt as text. `str.format` would trip over braces in the user's text."""
        if self.kind == "template":
            assert self.template is not None
            return self.template.replace(SLOT, prompt)
        if not tokenizer.chat_template:
            raise UserError(
                "prompt.kind is 'chat' but the model's tokenizer has no chat template. "
                f"Use kind 'template' with a template such as 'Question: {SLOT}\\nAnswer:'"
            )
        from jinja2 import TemplateError

        system = [] if self.system is None else [{"role": "system", "content": self.system}]
        try:
            return tokenizer.apply_chat_template(
                [*system, {"role": "user", "content": prompt}],
                add_generation_prompt=True,
                tokenize=False,
                date_string=TEMPLATE_DATE,
            )
        except TemplateError as error:
            raise UserError(
                f"the model's chat template refused the prompt: {error}. "
                "If it knows no system message, remove prompt.system."
            ) from error


def _tokens(tokenizer, text: str, plain: bool = False) -> list[int]:
    """Tokens of `text` alone; with `plain`, text that spells a control token stays text."""
    return tokenizer.encode(text, add_special_tokens=False, split_special_tokens=plain)


def _control_tokens(tokenizer) -> list[str]:
    return [token.content for token in tokenizer.added_tokens_decoder.values() if token.special]


def _end_id(tokenizer) -> int:
    if tokenizer.eos_token_id is None:
        raise UserError("the tokenizer has no end token, so a model cannot learn where an answer ends")
    return tokenizer.eos_token_id
