"""A model with several end tokens: whoever asks it for text stops at each of them."""

from __future__ import annotations

import copy
from types import SimpleNamespace

import pytest

from pipeline_lib.benchmarks.harness_model import EngineLM
from pipeline_lib.engine.evaluate import evaluate_model
from pipeline_lib.engine.generation import generate
from pipeline_lib.engine.settings import Decoding, Parts
from pipeline_lib.engine.toxicity import Judge, ToxicitySettings, evaluate_toxicity
from pipeline_lib.models.prompt import UNFINISHED
from tests.engine.conftest import SETTINGS, settings_of
from tests.engine.continuations import continue_greedily
from tests.engine.test_toxicity import PROMPTS, Counting
from tests.engine.test_toxicity import SETTINGS as TOXICITY

SAMPLES = {"n": 4, "temperature": 1.0, "top_p": 0.9, "splits": ["forget"]}


def answers(setup, prompts, ends=()):
    model, tokenizer, _ = setup
    return generate(
        model,
        prompts,
        Decoding([tokenizer.eos_token_id, *ends], tokenizer.pad_token_id, 4096),
        max_new_tokens=6,
    )


@pytest.fixture(scope="module")
def stopping(tiny):
    """The tiny model with so many end tokens that it says one in most answers."""
    model, tokenizer, prompt_format = tiny
    own = copy.deepcopy(tokenizer)
    own.published_ends = tuple(range(5, len(own), 3))
    return model, own, prompt_format


def test_greedy_and_drawn_answers_of_records(tiny, stopping, records, tmp_path) -> None:
    _, tokenizer, prompt_format = stopping
    settings = {**SETTINGS, "samples": SAMPLES}
    splits = {"forget": records}
    rows = evaluate_model(*stopping, splits, settings_of(settings), Parts(tmp_path, "w"), progress=False)
    prompts = [prompt_format.encode_prompt(tokenizer, record.prompt) for record in records]
    expected = answers(tiny, prompts, tokenizer.published_ends)
    assert expected != answers(tiny, prompts)
    for row, answer in zip(rows, expected, strict=True):
        assert row["generation"] == prompt_format.decode_answer(tokenizer, answer.tokens)
        assert (row["generation_ended"], row["generation_tokens"]) == (
            answer.ended,
            len(answer.tokens) + answer.ended,
        )
    # drawn answers: the same ones, cut
    whole = evaluate_model(*tiny, splits, settings_of(settings), Parts(tmp_path, "w"), progress=False)
    cut = 0
    for row, uncut in zip(rows, whole, strict=True):
        pairs = zip(row["samples"], row["samples_ended"], uncut["samples"], strict=True)
        for text, ended, longer in pairs:
            assert longer.startswith(text.rstrip(UNFINISHED))
            assert ended or text == longer
            cut += text != longer
    assert cut


def test_known_beginnings_end_at_any_of_them(tiny) -> None:
    model = tiny[0]
    found = continue_greedily(
        model,
        [[5, 6], [5, 6], [5, 6]],
        [[9, 8, 7], [9, 7, 8], [9]],
        [None] * 3,
        Decoding([7, 8], 0, 64),
        [3, 3, 1],
    )
    assert [(answer.tokens, answer.ended) for answer in found] == [([9], True), ([9], True), ([9], False)]


def test_toxic_continuations(tiny, stopping, tmp_path) -> None:
    def asked(own, **changes):
        settings = ToxicitySettings(**{**TOXICITY, "samples": 8, **changes})
        judge = Judge(Counting(), None)
        return evaluate_toxicity(*own, PROMPTS, judge, settings, Parts(tmp_path, "w"), progress=False)

    for chat in (False, True):
        cut = 0
        for row, uncut in zip(asked(stopping, chat=chat), asked(tiny, chat=chat), strict=True):
            for text, ended, longer in zip(
                row["samples"], row["samples_ended"], uncut["samples"], strict=True
            ):
                assert longer.startswith(text.rstrip(UNFINISHED))
                assert ended or text == longer
                cut += text != longer
        assert cut


def test_lm_evals_generation(tiny, stopping) -> None:
    texts = ["Who wrote the book about the river?", "The author", "Book"]
    requests = [
        SimpleNamespace(args=(text, {"until": [], "max_gen_toks": 20}), task_name="t") for text in texts
    ]
    found = [
        EngineLM(model, tokenizer, max_tokens_per_batch=4096, progress=False).generate_until(requests)
        for model, tokenizer, _ in (tiny, stopping)
    ]
    assert found[0] != found[1]
    for whole, cut in zip(*found, strict=True):
        assert whole.startswith(cut.rstrip(UNFINISHED))
