"""The chat template: which one of several, and the study's date in it whatever the clock says."""

from __future__ import annotations

import copy
import json

import pytest

from pipeline_lib.core.errors import UserError
from pipeline_lib.models.folder import load_model_folder, save_model_folder
from pipeline_lib.models.prompt import PromptFormat
from tests.models.chat_families import FAMILIES, Family, model_for, tokenizer_of

CHAT = PromptFormat("chat")
NAMED = {"rag": "<rag>{{ messages[0]['content'] }}", "tool_use": "<tool>{{ messages[0]['content'] }}"}
QUESTION = {"role": "user", "content": "Who?"}


def text_of(tokenizer, prompt_format=CHAT) -> str:
    return tokenizer.decode(prompt_format.encode_prompt(tokenizer, "Who?"))


def dated(template: str):
    return tokenizer_of(Family(template + "{{ messages[0]['content'] }}", "</s>", "</s>"))


@pytest.mark.parametrize(
    ("template", "shown"),
    [
        ("{{ date_string }}: ", "{day}: "),
        ("{{ strftime_now('%d %b %Y') }}: ", "{day}: "),
        ("{{ strftime_now(format='%d %b %Y') }}: ", "{day}: "),
        ("{% set now = strftime_now('%H:%M:%S') %}{{ now }} ", "00:00:00 "),
        ("{% macro day() %}{{ strftime_now('%d') }}{% endmacro %}{{ day() | upper }}: ", "{number}: "),
        ("{% for m in messages %}{{ strftime_now('%Y') + '' }}{% endfor %}: ", "{year}: "),
        ("{% if strftime_now is defined %}{{ strftime_now('%d %b %Y') }}{% endif %}", "{day}"),
        ("\n  x{{ strftime_now('100%% ') }}", "\n  x100% "),
        ("{# a comment #}\n\n", "\n"),
    ],
)
@pytest.mark.parametrize("day", [None, "10 Apr 2025"])
def test_the_day_is_the_studys(template: str, shown: str, day: str | None) -> None:
    printed = day or "26 Jul 2024"
    expected = shown.format(day=printed, number=printed[:2], year=printed[-4:])
    assert text_of(dated(template), PromptFormat("chat", date=day)) == f"{expected}Who?"


def test_the_clock_changes_nothing(monkeypatch) -> None:
    import datetime

    from transformers.utils import chat_template_utils

    class Later(datetime.datetime):
        @classmethod
        def now(cls, tz=None):
            return cls(2031, 2, 3, 4, 5)

    tokenizer = tokenizer_of(FAMILIES["smollm3"])
    before = CHAT.encode_prompt(tokenizer, "Who?")
    monkeypatch.setattr(chat_template_utils, "datetime", Later)
    assert "03 February 2031" in tokenizer.apply_chat_template([QUESTION], tokenize=False)
    assert CHAT.encode_prompt(copy.deepcopy(tokenizer), "Who?") == before
    assert "Today: 26 July 2024" in tokenizer.decode(before)


@pytest.mark.parametrize("name", FAMILIES)
def test_tokens_are_those_of_transformers_with_the_tokenizers_begin_token(name: str) -> None:
    family = FAMILIES[name]
    tokenizer = tokenizer_of(family)
    theirs = tokenizer.apply_chat_template(
        [QUESTION], add_generation_prompt=True, return_dict=False, date_string="26 Jul 2024"
    )
    text = tokenizer.decode(theirs)
    if "strftime_now" in family.template and "date_string" not in family.template:
        return  # theirs is dated today
    ours = CHAT.encode_prompt(tokenizer, "Who?")
    begin = [tokenizer.bos_token_id] if family.begins and not text.startswith(str(family.bos)) else []
    assert ours == [*begin, *theirs]


def test_several_templates_and_no_default_are_refused_with_their_names() -> None:
    tokenizer = dated("")
    tokenizer.chat_template = NAMED
    words = r"several chat templates \('rag', 'tool_use'\).*'default'.*Set prompt\.chat_template"
    with pytest.raises(UserError, match=words):
        text_of(tokenizer)
    with pytest.raises(UserError, match=r"none is called 'ragg'.*Set prompt\.chat_template"):
        text_of(tokenizer, PromptFormat("chat", chat_template="ragg"))
    for name, start in (("rag", "<rag>"), ("tool_use", "<tool>")):
        assert text_of(tokenizer, PromptFormat("chat", chat_template=name)) == f"{start}Who?"
    tokenizer.chat_template = {**NAMED, "default": "{{ messages[0]['content'] }}"}
    assert text_of(tokenizer) == "Who?"
    tokenizer.chat_template = "{{ messages[0]['content'] }}"
    with pytest.raises(UserError, match=r"one template, without a name; leave the setting out"):
        text_of(tokenizer, PromptFormat("chat", chat_template="rag"))
    tokenizer.chat_template = dict.fromkeys(NAMED, "{{ messages[0]['content'] }}")
    assert text_of(tokenizer) == "Who?"  # whichever is meant
    tokenizer.chat_template = {}
    with pytest.raises(UserError, match="no chat template"):
        text_of(tokenizer)


def test_the_named_templates_turn_end_is_learned(tmp_path) -> None:
    tokenizer = tokenizer_of(FAMILIES["phi3"])
    turn = "{% for m in messages %}<|user|>{{ m['content'] }}%s{% endfor %}<|assistant|>"
    tokenizer.chat_template = {"a": turn.replace("%s", "<|end|>"), "b": turn.replace("%s", "<|system|>")}
    for name, end in (("a", "<|end|>"), ("b", "<|system|>")):
        prompt_format = PromptFormat("chat", chat_template=name, date="10 Apr 2025")
        assert prompt_format.encode_answer(tokenizer, "x")[-1] == tokenizer.convert_tokens_to_ids(end)
    save_model_folder(tmp_path / "m", model_for(tokenizer), tokenizer, prompt_format, {"status": "ok"})
    _, again, kept, _ = load_model_folder(tmp_path / "m")
    assert again.chat_template == tokenizer.chat_template
    assert kept == prompt_format
    assert kept.encode_prompt(again, "Who?") == prompt_format.encode_prompt(tokenizer, "Who?")
    written = json.loads((tmp_path / "m" / "generation_config.json").read_text())
    assert written["eos_token_id"] == [0, again.convert_tokens_to_ids("<|system|>")]


def test_a_tokenizer_in_plain_python(tmp_path) -> None:
    """Slow tokenizers of transformers: letters, a control token for the end of a turn, a begin token."""
    from transformers import PreTrainedTokenizer

    class Letters(PreTrainedTokenizer):
        def __init__(self, **settings):
            self.known = {chr(code): code for code in range(128)}
            self.names = {code: letter for letter, code in self.known.items()}
            super().__init__(**settings)

        @property
        def vocab_size(self):
            return len(self.known)

        def get_vocab(self):
            return {**self.known, **self.added_tokens_encoder}

        def _tokenize(self, text, **_):
            return list(text)

        def _convert_token_to_id(self, token):
            return self.known.get(token, 0)

        def _convert_id_to_token(self, index):
            return self.names[index]

        def convert_tokens_to_string(self, tokens):
            return "".join(tokens)

        def build_inputs_with_special_tokens(self, token_ids_0, token_ids_1=None):
            return [self.bos_token_id, *token_ids_0]

    tokenizer = Letters(
        bos_token="<s>",
        eos_token="</s>",
        extra_special_tokens=["<end>", "<user>", "<bot>"],
        chat_template="{{ bos_token }}{% for m in messages %}<user>{{ m['content'] }}<end>{% endfor %}<bot>",
    )
    plain = PromptFormat("template", template="Question: {prompt}\nAnswer:", answer_prefix=" ")
    end = tokenizer.convert_tokens_to_ids("<end>")
    for prompt_format, last in ((CHAT, end), (plain, tokenizer.eos_token_id)):
        ids = prompt_format.encode_prompt(tokenizer, "Who <end>?")
        assert ids.count(tokenizer.bos_token_id) == 1 and ids[0] == tokenizer.bos_token_id
        assert ids.count(end) == (prompt_format.kind == "chat")
        answer = prompt_format.encode_answer(tokenizer, "Mara.")
        assert answer[-1] == last
        assert prompt_format.decode_answer(tokenizer, [*answer, *answer]) == "Mara."
