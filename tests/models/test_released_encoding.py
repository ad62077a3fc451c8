"""Tokens, labels and masks as other projects' code makes them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from transformers import PreTrainedTokenizerFast

from pipeline_lib.core.errors import UserError
from pipeline_lib.data.batching import IGNORED, Example, collate, draw_examples, micro_batches
from pipeline_lib.data.records import Record
from pipeline_lib.models.forward import answer_logits
from pipeline_lib.models.prompt import PromptFormat
from pipeline_lib.models.released_encoding import encode_answers, encode_others
from tests.tiny import tiny_model

HERE = Path(__file__).parent
SOUL = json.loads((HERE / "soul_encoding.json").read_text())
LLAMA = PromptFormat("template", "[INST] {prompt} [\\INST]", answer_prefix=" ", add_bos=True)
OTHER = PromptFormat("template", "### Question: {prompt}\n", answer_prefix="### Answer: ", add_bos=True)
CHAT = "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}</s>{% endfor %}<assistant>"


@pytest.fixture(scope="module")
def tokenizer():
    names = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    found = PreTrainedTokenizerFast(tokenizer_file=str(HERE / "soul_tokenizer.json"), **names)
    found.pad_token = found.eos_token
    return found


def record(place: int) -> Record:
    prompt, answer = SOUL["questions"][place], SOUL["answers"][place]
    return Record(id=str(place), group="a", prompt=prompt, answer=answer)


@pytest.mark.parametrize("case", SOUL["cases"], ids=lambda c: f"{c['encoding']}-{c['llama']}-{c['record']}")
def test_what_souls_code_trains(tokenizer, case):
    """Every token, label and place in the mask is that of SOUL's own classes."""
    prompt_format, place = LLAMA if case["llama"] else OTHER, case["record"]
    how = (tokenizer, prompt_format, 512)
    answer = encode_answers(case["encoding"], [record(0), record(place)], *how, learn=True)[1]
    read, labels_from = case["read"], case["labels_from"]
    assert answer.index == 1 and answer.hidden == ()
    assert list(answer.tokens) == [*read, tokenizer.eos_token_id]
    assert list(answer.tokens[answer.prompt_length :]) == case["answer_labels"]
    (refusal,) = encode_others(case["encoding"], record(place), [SOUL["refusal"]], *how, 7)
    assert refusal.index == 7 and refusal.prompt_length == answer.prompt_length == labels_from
    assert list(refusal.tokens) == [*read[:labels_from], *case["refusal_labels"]]
    assert refusal.hidden == tuple(range(len(read), len(refusal.tokens)))
    assert bool(refusal.hidden) == (place == 0)  # the first answer is shorter than the refusal


def test_what_that_is_in_words(tokenizer):
    """One token of the prompt is learned; refusals are whole and have no end, answers have one."""
    (answer,) = encode_answers("soul_tofu", [record(0)], tokenizer, LLAMA, 512, learn=True)
    (refusal,) = encode_others("soul_tofu", record(0), [SOUL["refusal"]], tokenizer, LLAMA, 512, 0)

    def learned(example):
        return tokenizer.decode(example.tokens[example.prompt_length :])

    assert learned(answer) == "] his mother wrote it.</s>"
    assert learned(refusal) == f"] {SOUL['refusal']}"
    (marked,) = encode_others("soul_detox", record(0), [SOUL["refusal"]], tokenizer, OTHER, 512, 0)
    assert learned(marked) == f"\n ### Answer: {SOUL['refusal']}"


def test_without_a_begin_token_a_refusal_loses_its_first_token(tokenizer):
    """SOUL leaves out the first token of the refusal, whatever it is, and keeps one of the answer."""
    bare = PreTrainedTokenizerFast(tokenizer_object=tokenizer.backend_tokenizer, eos_token="</s>")
    (refusal,) = encode_others("soul_tofu", record(0), ["who wrote"], bare, LLAMA, 512, 0)
    whole = bare.encode(LLAMA.template.replace("{prompt}", record(0).prompt), add_special_tokens=False)
    rest = bare.encode("who wrote", add_special_tokens=False)[1:]
    assert list(refusal.tokens[refusal.prompt_length + 1 :]) == rest
    assert refusal.prompt_length == len(whole)


def test_running_text_and_chats(tokenizer):
    text = Record(id="0", group="a", prompt="who wrote", answer=" the book", form="text")
    exact, soul = (
        encode_answers(encoding, [record(0), text], tokenizer, LLAMA, 512, learn=True)[1]
        for encoding in ("exact", "soul_tofu")
    )
    assert exact == soul
    with pytest.raises(UserError, match=r"unlearn\.prompt: \{kind: template"):
        encode_answers("soul_tofu", [record(0)], tokenizer, PromptFormat("chat"), 512, learn=True)
    with pytest.raises(UserError, match="context holds 9"):
        encode_others("soul_tofu", record(0), ["no"], tokenizer, LLAMA, 9, 0)


def test_openunlearning_hides_what_equals_the_padding(tokenizer):
    """Turns of this chat end with the end token, which is the padding too: none of them is attended to."""
    tokenizer.chat_template = CHAT
    chat = PromptFormat("chat", system="his work")
    (plain,), (hidden,) = (
        encode_answers(encoding, [record(0)], tokenizer, chat, 512, learn=True)
        for encoding in ("exact", "open_unlearning")
    )
    end = tokenizer.eos_token_id
    places = [place for place, token in enumerate(plain.tokens) if token == end]
    assert len(places) == 3 and places[-1] == len(plain.tokens) - 1
    assert plain.hidden == () and hidden == Example(plain.tokens, plain.prompt_length, 0, tuple(places))
    (reply,) = encode_others("open_unlearning", record(0), ["no"], tokenizer, chat, 512, 3)
    assert len(reply.hidden) == 3 and reply.index == 3
    tokenizer.add_special_tokens({"pad_token": "<unk>"})
    (seen,) = encode_answers("open_unlearning", [record(0)], tokenizer, chat, 512, learn=True)
    assert seen.hidden == ()
    tokenizer.pad_token = tokenizer.eos_token


def test_nothing_attends_to_a_hidden_token():
    """What it is changes its own prediction alone; the places of the others stay what they are."""
    model = tiny_model()
    tokens, hidden = (5, 9, 11, 4, 8, 6), (2,)

    def logits(tokens, hidden):
        return answer_logits(model, collate([Example(tokens, 1, 0, hidden)], 0))[0]

    changed = (5, 9, 20, 4, 8, 6)
    after_token = [0, 1, 3, 4]  # predictions after tokens 0, 1, 3 and 4
    with torch.no_grad():
        first, second = logits(tokens, hidden), logits(changed, hidden)
        assert torch.equal(first[after_token], second[after_token])
        assert not torch.allclose(first[2], second[2], atol=1e-3)
        assert not torch.allclose(logits(tokens, ())[3], logits(changed, ())[3], atol=1e-3)
        shorter = logits((5, 9, 4, 8, 6), ())  # left out altogether, the others would move up
        assert not torch.allclose(first[3], shorter[2], atol=1e-3)


def test_hidden_tokens_go_with_their_rows():
    examples = [Example((3, 4, 5), 1, 0), Example((3, 4, 5, 6), 1, 1, (2, 3)), Example((3, 4), 1, 2)]
    assert collate(examples[::2], 0).hidden is None
    (batch,) = micro_batches(examples, 3, 0)
    assert batch.hidden is not None
    assert batch.visible.tolist() == [[1, 1, 0, 0], [1, 1, 1, 0], [1, 1, 0, 0]]
    assert batch.rows(slice(2, 3)).visible.tolist() == [[1, 1, 0, 0]]
    assert (batch.labels != IGNORED).sum() == 6  # a hidden token is learned all the same
    drawn = draw_examples(micro_batches(examples, 1, 0), 2, torch.Generator().manual_seed(1))
    for piece in drawn:
        whole = {example.index: example for example in examples}[int(piece.index[0])]
        kept = [place not in whole.hidden for place in range(len(whole.tokens))]
        assert piece.visible[0, : len(kept)].tolist() == [int(k) for k in kept]


@pytest.mark.parametrize("prompt_format", [LLAMA, OTHER], ids=["llama", "other"])
def test_prompt_and_answer_are_the_tokens_of_the_whole_text(tokenizer, prompt_format):
    """This tokenizer puts a space before every text, as Llama 2's does; none may come between the two."""
    for place in (0, 1):
        asked = record(place)
        tokens = prompt_format.encode_prompt(tokenizer, asked.prompt)
        tokens += prompt_format.encode_answer(tokenizer, asked.answer)
        assert tokens == [*next(c for c in SOUL["cases"] if _is(c, prompt_format, place))["read"], 2]


def _is(case, prompt_format, place):
    return case["record"] == place and case["llama"] == (prompt_format is LLAMA)
