"""How a prompt and an answer become tokens: the model's chat template, or a template of the suite.

Prompt and answer are tokenised apart, so the boundary between them is exact: the prompt's tokens
have no label, the answer's tokens and one end token do (see `ends`). Where a model expects a space between
the two ("Answer:" + " Paris"), the space belongs to the answer: `answer_prefix`.

Running text (records of form "text") has no template, no prefix and no end token; see `encode_text`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from itertools import takewhile
from typing import Any

from pipeline_lib.core.errors import UserError
from pipeline_lib.models.ends import answer_ends, end_id
from pipeline_lib.models.plain_text import (
    control_tokens,
    decoded,
    following,
    own_begin,
    plain_tokens,
    special_tokens,
    tokens_of,
)
from pipeline_lib.models.prompt_check import check_once
from pipeline_lib.models.prompt_settings import prompt_faults
from pipeline_lib.models.template import chat_template, render

SLOT = "{prompt}"
UNFINISHED = "\ufffd"  # the decoding of a character of which some bytes are missing
EDGE = "\t\t"  # white space around a question, which shows whether a chat template trims it
MARK = "question4711"


@dataclass(frozen=True)
class PromptFormat:
    """`kind` "chat" uses the tokenizer's chat template, "template" the text in `template`.

    `system` (chat only): the system message; None leaves it to the chat template, which may add one
    of its own, and "" asks for an empty one. `chat_template` (chat only): the name of one of the tokenizer's
    several templates. `date` (chat only): the day that a template prints, such as "10 Apr 2025"; None:
    `study_date.DEFAULT`. `add_bos`: whether the prompt begins with the tokenizer's begin token. None: as the
    tokenizer does by itself before plain text, since that is how its model was trained; a begin token that a
    template writes is not doubled. `instruction`: text before everything that the model is asked, for
    in-context unlearning (Pawelczyk et al. 2024, arXiv 2310.07579): in a chat the system message, before
    `system` if there is one (the chat template's own default message is then not shown); else plain text and
    a blank line, before the template and before running text.
    """

    kind: str
    template: str | None = None
    system: str | None = None
    answer_prefix: str = ""
    add_bos: bool | None = None
    instruction: str = ""
    date: str | None = None
    chat_template: str | None = None

    def __post_init__(self) -> None:
        if self.kind not in ("chat", "template"):
            raise UserError(f"prompt.kind must be 'chat' or 'template', found {self.kind!r}")
        for name, message in prompt_faults(self):
            raise UserError(f"prompt.{name}: {message}")

    def encode_prompt(self, tokenizer, prompt: str) -> list[int]:
        """Tokens of everything before the answer.

        Control tokens come from the template only. A prompt that spells one (`<|im_end|>`) is tokenised
        apart, as plain text; in that rare case no merge crosses the template's edges. Every other prompt is
        tokenised in one piece with the template, as the model saw it in training.

        Raises `UserError` if the format with this tokenizer does not pass `check_prompt`.
        """
        check_once(tokenizer, self)
        return self.tokens_before_answer(tokenizer, prompt)

    def tokens_before_answer(self, tokenizer, prompt: str) -> list[int]:
        """`encode_prompt` without `check_prompt`."""
        control = self._control(tokenizer)
        if any(token in prompt for token in (*special_tokens(tokenizer), *control)):
            tokens = self._around(tokenizer, prompt, control)
        else:
            text = (
                (self.template or "").replace(SLOT, prompt)  # `str.format` would trip over braces in a prompt
                if self.kind == "template"
                else render(tokenizer, self, prompt)
            )
            tokens = tokens_of(tokenizer, text)
        begin = self._begin(tokenizer)
        if tokens[: len(begin)] == begin:
            tokens = tokens[len(begin) :]
        elif begin and begin[0] in tokens and begin[0] != tokenizer.eos_token_id:
            begin = []  # the template writes its own, after white space
        instruction = self._instruction(tokenizer) if self.kind == "template" else []
        return [*begin, *instruction, *tokens]

    def encode_text(self, tokenizer, prompt: str, continuation: str) -> tuple[list[int], int, int]:
        """Tokens of a running text, the place where it begins in them, and where its continuation does.

        Prompt and continuation are tokenised together, as text is in pretraining: tokenised apart, a word cut
        by the boundary and the space before a word would become other tokens. A token belongs to the
        continuation if it starts in it; white space that a tokenizer assigns to no token is the start of the
        token after it.

        The begin token and the instruction, if any, come before the text. `add_bos` decides about the begin
        token; by default it is there if the tokenizer itself puts one before plain text, since that is how
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
        before = [*self._begin(tokenizer), *self._instruction(tokenizer)]
        in_prompt = end_before = 0
        for start, end in found["offset_mapping"]:
            if start >= len(prompt) and end_before >= len(prompt):  # only white space is between the two
                break
            in_prompt += 1
            end_before = end
        if in_prompt == len(found["input_ids"]):
            raise UserError(
                f"no token starts in {continuation[:60]!r} after {prompt[-60:]!r}; make it longer"
            )
        return [*before, *found["input_ids"]], len(before), len(before) + in_prompt

    def encode_answer(self, tokenizer, answer: str, opening: str = "") -> list[int]:
        """Tokens of prefix and answer as plain text, then the end token: the model learns to stop.

        In a chat the end token is the one that ends the assistant's turn; white space that the template puts
        after it is not learned. After a template the tokens are those within the whole text: a tokenizer that
        puts a space before every text (Llama 2) puts none between template and answer. After an `opening`
        (`encode_opening`) they are those within it and no prefix: a space comes before the answer.
        """
        if opening:
            return [*self._plain(tokenizer, f" {answer}", True), end_id(tokenizer, self)]
        text = self.answer_prefix + answer
        return [*self._plain(tokenizer, text, self.kind == "template"), end_id(tokenizer, self)]

    def encode_opening(self, tokenizer, opening: str) -> list[int]:
        """Tokens of an answer's beginning that is given to the model, with the prefix and without an end."""
        return self._plain(tokenizer, self.answer_prefix + opening, self.kind == "template")

    def _plain(self, tokenizer, text: str, inside: bool) -> list[int]:
        """Plain text in which no token that ends an answer is recognised."""
        added = tokenizer.added_tokens_decoder
        unmarked = [
            added[token].content
            for token in sorted(answer_ends(tokenizer, self))
            if token in added and not added[token].special
        ]
        return plain_tokens(tokenizer, text, unmarked, inside)

    def decode_answer(self, tokenizer, ids: Sequence[int], opening: str = "") -> str:
        """Text of generated tokens up to the first end token, without `answer_prefix` and control tokens.

        After an `opening`: without the space between the two.
        """
        text = decoded(tokenizer, self._before_end(tokenizer, ids))
        return text.removeprefix(" " if opening else self.answer_prefix)

    def decode_text(self, tokenizer, prompt_ids: Sequence[int], ids: Sequence[int]) -> str:
        """Text of tokens that continue `prompt_ids`, up to the first end token.

        It is decoded with the prompt: without, the first token would lose its space with some tokenizers.
        """
        kept = self._before_end(tokenizer, ids)
        before = decoded(tokenizer, prompt_ids).rstrip(UNFINISHED)
        whole = decoded(tokenizer, [*prompt_ids, *kept])
        return whole.removeprefix(before) if whole.startswith(before) else decoded(tokenizer, kept)

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

    def _begin(self, tokenizer) -> list[int]:
        if self.add_bos is False:
            return []
        own = own_begin(tokenizer)
        if own or not self.add_bos:
            return own
        if tokenizer.bos_token_id is None:
            raise UserError("prompt.add_bos is true but the tokenizer has no begin token; set it to false")
        return [tokenizer.bos_token_id]

    def _before_end(self, tokenizer, ids: Sequence[int]) -> list[int]:
        ends = answer_ends(tokenizer, self)
        return list(takewhile(lambda token: token not in ends, ids))

    def _instruction(self, tokenizer) -> list[int]:
        """Tokens of the instruction as plain text, apart from those of what follows."""
        return (
            plain_tokens(tokenizer, self.instruction + "\n\n", self._control(tokenizer))
            if self.instruction
            else []
        )

    def _control(self, tokenizer) -> list[str]:
        """Tokens that the template uses and that are not marked as special."""
        template = self.template if self.kind == "template" else chat_template(tokenizer, self.chat_template)
        return control_tokens(tokenizer, template or "")

    def _around(self, tokenizer, prompt: str, control: Sequence[str]) -> list[int]:
        """Tokens of the template's text, and of the prompt as plain text wherever the template shows it."""
        if self.kind == "template":
            first, *rest = (self.template or "").split(SLOT)
        else:
            shown = render(tokenizer, self, f"{EDGE}{MARK}{EDGE}")
            prompt = prompt if f"{EDGE}{MARK}" in shown else prompt.lstrip()
            prompt = prompt if f"{MARK}{EDGE}" in shown else prompt.rstrip()
            first, *rest = re.split(f"(?:{EDGE})?{MARK}(?:{EDGE})?", shown)
        tokens = tokens_of(tokenizer, first)
        for text in rest:
            tokens += plain_tokens(tokenizer, prompt, control, inside=bool(first))
            tokens += following(tokenizer, text)
        return tokens
