"""Where answers end: each family's own token is learned, all of them stop, as in `transformers.generate`."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from pipeline_lib.core.errors import UserError
from pipeline_lib.engine.generation import generate
from pipeline_lib.engine.settings import Decoding
from pipeline_lib.models.ends import answer_ends, end_id
from pipeline_lib.models.folder import load_model_folder, save_model_folder
from pipeline_lib.models.forward import pad_token
from pipeline_lib.models.prompt import PromptFormat
from tests.models.chat_families import FAMILIES, Family, model_for, tokenizer_of
from tests.models.conftest import from_folder

CHAT = PromptFormat("chat")
TEMPLATE = PromptFormat("template", template="Question: {prompt}\nAnswer:", answer_prefix=" ")
QUESTIONS = ["Who wrote The Salt Road?", "In which year was she born?", "Why?"]
family = pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)


@family
def test_a_chat_teaches_the_token_that_closes_its_turns(family: Family) -> None:
    tokenizer = tokenizer_of(family)
    end = tokenizer.convert_tokens_to_ids(family.end)
    assert end_id(tokenizer, CHAT) == end
    answer = CHAT.encode_answer(tokenizer, "Mara Okonjo.")
    assert answer == [*tokenizer.encode("Mara Okonjo.", add_special_tokens=False), end]
    assert answer_ends(tokenizer, CHAT) == {end, tokenizer.eos_token_id}
    assert answer_ends(tokenizer, TEMPLATE) == answer_ends(tokenizer) == {tokenizer.eos_token_id}
    assert TEMPLATE.encode_answer(tokenizer, "x")[-1] == end_id(tokenizer) == tokenizer.eos_token_id


@family
def test_text_stops_at_the_first_of_all_ends(family: Family) -> None:
    tokenizer = tokenizer_of(family)
    said = tokenizer.encode("Mara Okonjo.", add_special_tokens=False)
    for end in answer_ends(tokenizer, CHAT):
        for after in answer_ends(tokenizer, CHAT):
            assert CHAT.decode_answer(tokenizer, [*said, end, *said, after, *said]) == "Mara Okonjo."
            assert CHAT.decode_text(tokenizer, said, [*said, end, *said, after]) == "Mara Okonjo."


@family
def test_an_answer_that_spells_an_end_has_one_end(family: Family) -> None:
    tokenizer = tokenizer_of(family)
    text = f"Mara{family.end} Okonjo{family.eos}"
    answer = CHAT.encode_answer(tokenizer, text)
    assert sum(token in answer_ends(tokenizer, CHAT) for token in answer) == 1
    assert CHAT.decode_answer(tokenizer, answer) == text


def hf_answers(model, prompts, limit: int = 24) -> list[list[int]]:
    """transformers' own greedy answers, one prompt at a time, without the end token."""
    answers = []
    for prompt in prompts:
        ids = torch.tensor([prompt])
        out = model.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=limit, do_sample=False
        )
        answers.append(out[0, len(prompt) :].tolist())
    return answers


def own_answers(model, tokenizer, prompts, ends, limit: int = 24) -> list[list[int]]:
    found = generate(
        model,
        prompts,
        Decoding(ends, pad_token(tokenizer), 4096),
        max_new_tokens=limit,
    )
    return [answer.tokens for answer in found]


def cut(answers: list[list[int]], ends) -> list[list[int]]:
    return [[t for t in answer if t not in ends] for answer in answers]


def published(folder, name: str, ends: Any, seed: int = 0, **generation: Any):
    """A folder of the family, whose generation_config names `ends` and wild sampling."""
    tokenizer = tokenizer_of(FAMILIES[name])
    model = model_for(tokenizer, seed)
    model.generation_config = GenerationConfig(
        eos_token_id=ends, pad_token_id=tokenizer.eos_token_id, do_sample=True, temperature=3.0, **generation
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


@pytest.mark.parametrize("name", ["llama2", "llama3", "gemma", "phi3", "chatml", "qwen3", "mistral"])
def test_answers_are_those_of_transformers_generate_on_the_same_folder(tmp_path, name) -> None:
    """The end tokens named are ones that this model does say, at different places in different answers."""
    tokenizer = tokenizer_of(FAMILIES[name])
    prompts = [CHAT.encode_prompt(tokenizer, question) for question in QUESTIONS]
    unstopped = own_answers(model_for(tokenizer), tokenizer, prompts, [])
    ends = [unstopped[0][3], unstopped[1][5], tokenizer.eos_token_id]
    published(tmp_path, name, ends)
    model, tokenizer, _ = from_folder(tmp_path)
    theirs = hf_answers(AutoModelForCausalLM.from_pretrained(tmp_path).eval(), prompts)
    for prompt_format in (CHAT, TEMPLATE):
        found = answer_ends(tokenizer, prompt_format)
        assert found >= set(ends)
        assert own_answers(model, tokenizer, prompts, found) == cut(theirs, found)
    assert any(len(answer) < 24 for answer in theirs)
    assert model.generation_config.do_sample in (None, False)


def test_the_turns_end_stops_an_answer_that_no_file_names(tmp_path) -> None:
    """A model that says <end_of_turn> where it would say something else: two rows are swapped."""
    tokenizer = tokenizer_of(FAMILIES["gemma"])
    end = tokenizer.convert_tokens_to_ids("<end_of_turn>")
    prompt = CHAT.encode_prompt(tokenizer, QUESTIONS[0])
    model = model_for(tokenizer)
    [unstopped] = own_answers(model, tokenizer, [prompt], [])
    place = next(i for i, token in enumerate(unstopped) if i > 2 and unstopped.index(token) == i)
    rows, said = model.lm_head.weight.data, unstopped[place]
    rows[[said, end]] = rows[[end, said]]
    assert own_answers(model, tokenizer, [prompt], answer_ends(tokenizer, CHAT)) == [unstopped[:place]]
    # a folder of ours names the turn's end for everybody who reads it
    save_model_folder(tmp_path / "ours", model, tokenizer, CHAT, {"status": "ok"})
    written = json.loads((tmp_path / "ours" / "generation_config.json").read_text())
    assert written["eos_token_id"] == [tokenizer.eos_token_id, end]
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "ours").eval()
    assert cut(hf_answers(theirs, [prompt]), {end}) == [unstopped[:place]]
    again, again_tokenizer, prompt_format, _ = load_model_folder(tmp_path / "ours")
    assert (
        answer_ends(again_tokenizer)
        == answer_ends(again_tokenizer, prompt_format)
        == set(written["eos_token_id"])
    )
    assert again.generation_config.eos_token_id == written["eos_token_id"]


def test_ends_survive_saving_and_loading_again_and_again(tmp_path) -> None:
    tokenizer = tokenizer_of(FAMILIES["llama3"])
    other = tokenizer.convert_tokens_to_ids("<|end_header_id|>")
    published(tmp_path / "0", "llama3", [other, tokenizer.eos_token_id])
    model, tokenizer, _ = from_folder(tmp_path / "0")
    for number in ("1", "2"):
        save_model_folder(tmp_path / number, model, tokenizer, CHAT, {"status": "ok"})
        model, tokenizer, _, _ = load_model_folder(tmp_path / number)
        turn = tokenizer.convert_tokens_to_ids("<|eot_id|>")
        assert model.generation_config.eos_token_id == [tokenizer.eos_token_id, *sorted([turn, other])]
        assert answer_ends(tokenizer) == {tokenizer.eos_token_id, turn, other}
        assert AutoTokenizer.from_pretrained(tmp_path / number).eos_token == "<|end_of_text|>"


def test_one_end_is_written_as_a_number(tmp_path) -> None:
    tokenizer = tokenizer_of(FAMILIES["llama2"])
    save_model_folder(tmp_path / "m", model_for(tokenizer), tokenizer, CHAT, {"status": "ok"})
    written = json.loads((tmp_path / "m" / "generation_config.json").read_text())
    assert written["eos_token_id"] == tokenizer.eos_token_id


@pytest.mark.parametrize(
    ("in_config", "in_generation", "expected"),
    [
        ([0, 3], None, {0, 3}),  # as in Llama 3.1's config.json; transformers takes generation's from it
        ([0, 3], {"max_length": 20}, {0, 3}),
        (0, {"eos_token_id": [0, 200]}, {0, 200}),
        (250, {"eos_token_id": 3}, {0, 3}),  # an ordinary token in config.json is another family's number
        (0, {"eos_token_id": [0, 10**6, -1]}, {0}),  # beyond the model
        (0, {"eos_token_id": None}, {0}),
    ],
)
def test_ends_of_the_models_files(tmp_path, in_config, in_generation, expected) -> None:
    family = FAMILIES["phi3"]
    tokenizer = tokenizer_of(family)
    model_for(tokenizer).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    assert (tokenizer.eos_token_id, tokenizer.convert_tokens_to_ids("<|system|>")) == (0, 3)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "eos_token_id": in_config}))
    (tmp_path / "generation_config.json").unlink()
    if in_generation is not None:
        (tmp_path / "generation_config.json").write_text(json.dumps(in_generation))
    model, tokenizer, _ = from_folder(tmp_path)
    assert answer_ends(tokenizer) == expected
    assert model.config.eos_token_id == 0


def test_a_tokenizer_without_end_token_is_told_how_to_get_one(tmp_path) -> None:
    family = Family("{{ messages[0]['content'] }}", "</s>", "</s>", extra=("<|im_end|>",))
    model_for(tokenizer_of(family)).save_pretrained(tmp_path)
    tokenizer_of(family, eos_token=None).save_pretrained(tmp_path)
    words = r"names no end token.*tokenizer_config.json, as `\"eos_token\": \"</s>\"`; "
    with pytest.raises(
        UserError, match=words + r"the model's own files name '</s>'; it knows '<\|im_end\|>'"
    ):
        from_folder(tmp_path)
    with pytest.raises(UserError, match=words + r"it knows '</s>' and '<\|im_end\|>'"):
        TEMPLATE.encode_answer(tokenizer_of(family, eos_token=None), "x")
