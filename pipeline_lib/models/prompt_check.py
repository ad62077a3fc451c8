"""The check of a rendered prompt, once, before anything is learned or asked with it.

A template may omit the question, cut it, drop the system message, or print something that changes from one
rendering to the next; nothing later in a study would notice.
"""

from __future__ import annotations

from itertools import pairwise

from pipeline_lib.core.errors import UserError
from pipeline_lib.models.ends import answer_ends
from pipeline_lib.models.plain_text import decoded, own_begin, tokens_of
from pipeline_lib.models.template import CURE, SHOWN, once, render

# Quotes, angle brackets and a line's end, which a template may replace; long, since it may cut.
QUESTIONS = (
    'Which "river" runs past Aldermere & Sons, the mill?\nName its <seven> {bridges}, it\'s 1 word.',
    'Who was the first <keeper> at Cape Verrin, and what did "they" say\nin {1956} & after? It\'s 2.',
)
RENDERINGS = 8  # of a template that draws one of two words, 1 in 128 goes unnoticed


def check_prompt(tokenizer, prompt_format, rows: int | None = None) -> None:
    """Raise `UserError` unless a question rendered in `prompt_format` is as it should be.

    The rendering has the question unchanged, but for white space at its ends, the system message and the
    instruction; two questions give different tokens; the text is the same every time; a begin token that the
    tokenizer puts before every text occurs once. `rows`: the number of the model's embeddings, which every
    token of the prompt and every end token must be below. No weights are needed.
    """
    if prompt_format.kind == "chat":
        for question in QUESTIONS:
            _check_text(tokenizer, prompt_format, question)
    first, second = (prompt_format.tokens_before_answer(tokenizer, question) for question in QUESTIONS)
    _check_tokens(tokenizer, first, second)
    if own_begin(tokenizer):
        _check_begin(tokenizer, first)
    if rows is not None:
        used = {*first, *answer_ends(tokenizer, prompt_format)}
        if beyond := sorted(token for token in used if not 0 <= token < rows):
            token = tokenizer.convert_ids_to_tokens(beyond[0])
            raise UserError(
                f"the prompt needs the token {token!r}, number {beyond[0]}, "
                f"but the model has embeddings for {rows} tokens. Model and tokenizer do not belong "
                "together, or the model was not resized when the token was added"
            )


check_once = once(check_prompt)


def _check_text(tokenizer, prompt_format, question: str) -> None:
    text = render(tokenizer, prompt_format, question)
    told = f"it made {text[:SHOWN]!r} of the question {question!r}"
    if question not in text:
        words = "changes the question" if question[:20] in text else "does not show the question"
        raise UserError(f"the model's chat template {words}: {told}. {CURE}")
    for wanted, name in ((prompt_format.system, "prompt.system"), (prompt_format.instruction, "instruction")):
        if wanted and _dense(wanted) not in _dense(text):
            cure = (
                "Remove prompt.system, or use kind 'template' and write the message into prompt.template"
                if name == "prompt.system"
                else "In-context unlearning cannot instruct such a model in a chat; use kind 'template'"
            )
            raise UserError(f"the model's chat template drops the system message ({name}): {told}. {cure}")
    if any(render(tokenizer, prompt_format, question) != text for _ in range(RENDERINGS - 1)):
        raise UserError(
            f"the model's chat template gives another text each time: {told} once, and something else "
            f"afterwards. {CURE}"
        )


def _check_tokens(tokenizer, first: list[int], second: list[int]) -> None:
    alone = [tokens_of(tokenizer, question, plain=True) for question in QUESTIONS]
    for question, own, whole in zip(QUESTIONS, alone, (first, second), strict=True):
        # Some tokenizers mark bytes as special, so special tokens are shown on both sides.
        if _dense(decoded(tokenizer, own, special=True)) not in _dense(
            decoded(tokenizer, whole, special=True)
        ):
            raise UserError(
                f"the prompt's tokens do not hold the question: of {question!r} the tokenizer made "
                f"{decoded(tokenizer, whole, special=True)[:SHOWN]!r}. Use the tokenizer that belongs to the "
                "model"
            )
    if first == second and alone[0] != alone[1]:
        raise UserError("two different questions give the same tokens; every answer would be the same one")


def _check_begin(tokenizer, tokens: list[int]) -> None:
    places = [i for i, token in enumerate(tokens) if token == tokenizer.bos_token_id]
    for one, next_one in pairwise(places):
        if not decoded(tokenizer, tokens[one + 1 : next_one], special=True).strip():
            raise UserError(
                f"the prompt begins with {tokenizer.bos_token!r} twice: the template writes it more than "
                "once. Remove one from the template"
            )


def _dense(text: str) -> str:
    """The text without white space, which tokenizers add and drop."""
    return "".join(text.split())
