"""Our engine as a model of lm-evaluation-harness: equal to its own model (`HFLM`)."""

from __future__ import annotations

import copy
from types import SimpleNamespace

import pytest
from lm_eval.models.huggingface import HFLM

from pipeline_lib.benchmarks.encoding import first_token
from pipeline_lib.benchmarks.generation_settings import cut
from pipeline_lib.benchmarks.harness import ask, members
from pipeline_lib.benchmarks.harness_model import EngineLM
from pipeline_lib.core.errors import UserError
from tests.benchmarks.conftest import asking


@pytest.fixture(scope="module")
def models(tiny):
    """(ours, lm-eval's own) around the same weights, which read 256 tokens."""
    model, tokenizer, _ = tiny
    ours = EngineLM(model, tokenizer, max_tokens_per_batch=4096, progress=False)
    theirs = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=2, device="cpu")
    theirs.cut, theirs.tokens = ours.cut, ours.tokens  # what rows are made of beside its answers
    assert (ours.max_length, first_token(tokenizer)) == (theirs.max_length, theirs.prefix_token_id)
    return ours, theirs


def asked(*arguments):
    return SimpleNamespace(args=arguments, task_name="t")


@pytest.mark.parametrize("name", ["arc_easy", "mmlu", "winogrande", "wikitext"])
def test_scores_equal_those_of_the_harness_own_model(models, data_folder, name):
    shots = 5 if name == "mmlu" else 0  # with 5 the questions are longer than the model reads
    own = members(name, asking(data_folder, name, mmlu_shots=shots))
    ours, theirs = (ask(model, name, own) for model in models)
    for row, other in zip(ours, theirs, strict=True):
        assert set(row) == set(other)
        for key, value in other.items():
            exact = isinstance(value, str | int) or value is None
            assert row[key] == (value if exact else pytest.approx(value, abs=1e-4, rel=1e-6))
    if name == "mmlu":
        assert all(row["truncated"] for row in ours)


def test_likelihoods_of_texts_without_context_and_with_spaces(models):
    requests = [asked("", "The cat"), asked("The cat ", "sat"), asked("The cat", " sat"), asked("", "<s>")]
    requests = requests[:3]
    ours, theirs = (model.loglikelihood(requests, disable_tqdm=True) for model in models)
    assert [value for value, _ in ours] == pytest.approx([value for value, _ in theirs], abs=1e-4)
    assert [greedy for _, greedy in ours] == [greedy for _, greedy in theirs]
    assert ours[1] == ours[2]


def test_generation_until_a_stop_string(models):
    long = asked("Who wrote the book about the river?", {"until": [], "max_gen_toks": 70})
    (whole,) = models[0].generate_until([long], disable_tqdm=True)
    middle = len(whole) // 2
    stop = whole[middle : middle + 2]
    requests = [
        long,
        asked(long.args[0], {"until": [stop, "never there"], "max_gen_toks": 70, "do_sample": False}),
        asked("The author", {"until": "e", "max_gen_toks": 8, "temperature": 0.0}),
    ]
    ours, theirs = (model.generate_until(requests, disable_tqdm=True) for model in models)
    assert ours == theirs
    assert ours[1] == whole[: whole.find(stop)]
    assert "e" not in ours[2]


QUESTION = "Who wrote the book about the river?"


def stop_strings(whole: str) -> dict[str, list[str]]:
    """Stop strings made of an answer's own text, in orders that cut it differently."""
    middle = len(whole) // 2
    pair, inner, next_ = whole[middle : middle + 2], whole[middle + 1], whole[middle + 1 : middle + 3]
    return {
        "overlapping, later first": [next_, pair],
        "overlapping, earlier first": [pair, next_],
        "one within the other": [inner, pair],
        "far, then near": [whole[-2:], whole[:3]],
        "across tokens": [whole[middle - 4 : middle + 4]],
        "empty": [""],
        "empty among others": [pair, ""],
        "never": ["\n\nQ:"],
    }


@pytest.mark.parametrize("name", stop_strings("some text of a length"))
def test_an_answer_is_cut_at_stop_strings_as_by_the_harness_own_model(models, name):
    (whole,) = models[0].generate_until([asked(QUESTION, {"until": [], "max_gen_toks": 60})], True)
    requests = [asked(QUESTION, {"until": stop_strings(whole)[name], "max_gen_toks": 60})]
    ours, theirs = (model.generate_until(copy.deepcopy(requests), disable_tqdm=True) for model in models)
    assert ours == theirs
    assert (ours == [whole]) == (name == "never")


def test_each_stop_string_in_turn_by_hand():
    """A token a letter. The answer ends with the letter that completes a stop string, then each one cuts."""

    def text_of(tokens):
        return "".join(chr(token) for token in tokens)

    def cut_at(text, *stops):
        return cut(text_of, [ord(letter) for letter in text], stops)

    assert cut_at("xabcd", "bc", "ab") == (True, "x")  # ends as xab, where bc is not yet
    assert cut_at("xabcd", "abc", "bc") == (True, "x")
    assert cut_at("xabcd", "bc", "abc") == (True, "xa")  # both are complete at once: bc cuts first
    assert cut_at("xabcd", "z") == (False, "xabcd")
    assert cut_at("xabcd", "") == (True, "x")  # is in any text, also in that of the first token
    assert cut_at("", "") == (False, "")


@pytest.mark.parametrize(
    "arguments",
    [
        {"do_sample": False, "temperature": 0.7, "max_gen_toks": 30},
        {"do_sample": False, "top_p": 0.9, "top_k": 5, "max_new_tokens": 9},
        {"max_gen_toks": 5, "max_new_tokens": 9, "num_beams": 1},
        {"temperature": 0, "repetition_penalty": 1.0, "until": "e", "max_gen_toks": 30},
        {"max_tokens": 12, "length_penalty": 2.0},
        {"max_completion_tokens": 3, "no_repeat_ngram_size": 0},
    ],
)
def test_settings_that_leave_greedy_decoding_as_it_is(models, arguments):
    requests = [asked(QUESTION, {"until": [], **arguments})]
    ours, theirs = (model.generate_until(copy.deepcopy(requests), disable_tqdm=True) for model in models)
    assert ours == theirs


@pytest.mark.parametrize(
    "arguments, words",
    [
        ({"temperature": 0.7}, "do_sample: false"),
        ({"do_sample": True}, "do_sample: false"),
        ({"do_sample": True, "temperature": 0.0}, "do_sample: false"),
        ({"num_beams": 4}, "num_beams: 4, and this engine decodes greedily.* set it to 1"),
        ({"num_beams": 4, "do_sample": False, "early_stopping": True}, "num_beams: 4"),
        ({"repetition_penalty": 1.2}, "repetition_penalty: 1.2"),
        ({"no_repeat_ngram_size": 3}, "no_repeat_ngram_size: 3"),
        ({"min_new_tokens": 5}, "min_new_tokens: 5"),
        ({"num_return_sequences": 2}, "num_return_sequences: 2"),
        ({"bad_words_ids": [[5]]}, "bad_words_ids: .* take it out"),
        ({"max_length": 50}, "max_length: 50"),
        ({"eos_token_id": 5}, "eos_token_id: 5"),
        ({"max_gen_toks": 0}, "0 new tokens; expected at least 1"),
        ({"until": {"a": 1}}, "a text or a list of texts"),
        ({"until": ["a", 5]}, "a text or a list of texts"),
    ],
)
def test_what_is_not_greedy_decoding_is_refused_before_anything_is_computed(models, arguments, words):
    model = copy.copy(models[0])
    model.model = None
    requests = [asked("The", {"until": []}), asked("The", {"until": [], **arguments})]
    with pytest.raises(UserError, match=words):
        model.generate_until(requests, disable_tqdm=True)


def test_nothing_to_score_is_an_error(models):
    with pytest.raises(UserError, match="nothing is left to score"):
        models[0].loglikelihood([asked("The cat", "")], disable_tqdm=True)
