"""How a prompt and an answer become tokens: the model's chat template, or a template of the suite.

Prompt and answer are tokenised apart, so the boundary between them is exact: the prompt's tokens
carry no label, the answer's tokens and one end token do. Where a model expects a space between the
two ("Answer:" + " Paris"), the space belongs to the answer: `answer_prefix`.

Running text (records of form "text") has no template, no prefix and no end token; see `encode_text`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from pipeline_lib.errors import UserError

SLOT = "{prompt}"
UNFINISHED = "\ufffd"  # what decoding gives for a character of which only some bytes are there

# Some chat templates (Llama 3.2) print today's date into the system message unless one is given;
# a fixed date keeps a study's tokens the same on every day. Templates without a date ignore it.
TEMPLATE_DATE = "26 Jul 2024"


@dataclass(frozen=True)
class PromptFormat:
    """`kind` "chat" uses the tokenizer's chat template, "template" the text in `template`.

    `system` (chat only): the system message; None leaves it to the chat template, which may add one
    of its own, and "" asks for an empty one. `add_bos` (template only): begin with the tokenizer's
    begin token; a chat template brings its own. `instruction`: text that stands before everything the
    model is asked, as in-context unlearning needs it (Pawelczyk et al. 2024, arXiv 2310.07579): in a chat
    the system message, before `system` where there is one (the chat template's own default message is then
    not shown); else plain text and a blank line, before the template and before running text.
    """

    kind: str
    template: str | None = None
    system: str | None = None
    answer_prefix: str = ""
    add_bos: bool = False
    instruction: str = ""

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
        before = self._bos(tokenizer)
        if self.kind == "template":
            before += self._instruction(tokenizer)
        if not any(token in prompt for token in _control_tokens(tokenizer)):
            return before + _tokens(tokenizer, self._text(tokenizer, prompt))
        # The last slot is the user's: a system message may hold the same text, and comes first.
        head, _, tail = self._text(tokenizer, SLOT).rpartition(SLOT)
        middle = _tokens(tokenizer, prompt, plain=True)
        return before + _tokens(tokenizer, head) + middle + _tokens(tokenizer, tail)

    def encode_text(self, tokenizer, prompt: str, continuation: str) -> tuple[list[int], int, int]:
        """Running text that `continuation` continues: (tokens, where the text begins, and the continuation).

        Prompt and continuation are tokenised together, as the model meets text when it is pretrained: apart,
        a word cut by the boundary and the space before a word would become other tokens. A token belongs to
        the continuation if it starts in it; white space that a tokenizer counts to no token is the start of
        the token after it.

        Before the text stand the begin token and the instruction, if any. The begin token: where
        `add_bos` asks for it, and where the tokenizer itself puts one before plain text, since that is how
        its model was pretrained (Llama 2 and OPT yes, GPT-2 and SmolLM2 no), whatever its chat template does.

        Raises `UserError` for a tokenizer that does not say which characters its tokens are, and for a
        continuation too short to have a token of its own.
        """
        if not tokenizer.is_fast:
            raise UserError(
                "records of running text need a tokenizer that says which characters its tokens are. Convert "
                "the model's to a tokenizer.json (load it with transformers and save it)."
            )
        found = tokenizer(
            prompt + continuation,
            add_special_tokens=False,
            split_special_tokens=True,
            return_offsets_mapping=True,
            verbose=False,
        )
        before = [*self._text_bos(tokenizer), *self._instruction(tokenizer)]
        in_prompt = end_before = 0
        for start, end in found["offset_mapping"]:
            if start >= len(prompt) and end_before >= len(prompt):  # what is between the two is white space
                break
            in_prompt += 1
            end_before = end
        if in_prompt == len(found["input_ids"]):
            raise UserError(
                f"no token starts in {continuation[:60]!r} after {prompt[-60:]!r}; make it longer"
            )
        return [*before, *found["input_ids"]], len(before), len(before) + in_prompt

    def encode_answer(self, tokenizer, answer: str) -> list[int]:
        """Tokens of prefix and answer as plain text, then the end token: the model learns to stop."""
        return [*_tokens(tokenizer, self.answer_prefix + answer, plain=True), end_id(tokenizer)]

    def decode_answer(self, tokenizer, ids: Sequence[int]) -> str:
        """Text of generated tokens up to the first end token, without `answer_prefix` and control tokens."""
        return _decoded(tokenizer, _before_end(tokenizer, ids)).removeprefix(self.answer_prefix)

    def decode_text(self, tokenizer, prompt_ids: Sequence[int], ids: Sequence[int]) -> str:
        """Text of tokens that continue `prompt_ids`, up to the first end token.

        Decoded with the prompt, since alone the first token would lose its space with some tokenizers.
        """
        kept = _before_end(tokenizer, ids)
        before = _decoded(tokenizer, prompt_ids).rstrip(UNFINISHED)
        whole = _decoded(tokenizer, [*prompt_ids, *kept])
        return whole.removeprefix(before) if whole.startswith(before) else _decoded(tokenizer, kept)

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

    def _text_bos(self, tokenizer) -> list[int]:
        if self.add_bos:
            return self._bos(tokenizer)
        first = tokenizer.encode("a", add_special_tokens=True)[0]
        return [first] if first == tokenizer.bos_token_id else []

    def _instruction(self, tokenizer) -> list[int]:
        """Tokens of the instruction as plain text, apart from what follows, which keeps its own tokens."""
        return _tokens(tokenizer, self.instruction + "\n\n", plain=True) if self.instruction else []

    def _messages(self, prompt: str) -> list[dict[str, str]]:
        parts = [part for part in (self.instruction, self.system) if part]
        system = "\n\n".join(parts) if parts else self.system  # an empty system message is not none
        first = [] if system is None else [{"role": "system", "content": system}]
        return [*first, {"role": "user", "content": prompt}]

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

        try:
            return tokenizer.apply_chat_template(
                self._messages(prompt),
                add_generation_prompt=True,
                tokenize=False,
                date_string=TEMPLATE_DATE,
            )
        except TemplateError as error:
            raise UserError(
                f"the model's chat template refused the prompt: {error}. "
                "If it knows no system message, remove prompt.system; in-context unlearning cannot "
                "instruct such a model in a chat."
            ) from error


def _tokens(tokenizer, text: str, plain: bool = False) -> list[int]:
    """Tokens of `text` alone; with `plain`, text that spells a control token stays text."""
    return tokenizer.encode(text, add_special_tokens=False, split_special_tokens=plain)


def _before_end(tokenizer, ids: Sequence[int]) -> list[int]:
    kept, end = list(ids), end_id(tokenizer)
    return kept[: kept.index(end)] if end in kept else kept


def _decoded(tokenizer, ids: Sequence[int]) -> str:
    return tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)


def _control_tokens(tokenizer) -> list[str]:
    return [token.content for token in tokenizer.added_tokens_decoder.values() if token.special]


def end_id(tokenizer) -> int:
    """The token that ends an answer."""
    if tokenizer.eos_token_id is None:
        raise UserError("the tokenizer has no end token, so a model cannot learn where an answer ends")
    return tokenizer.eos_token_id
