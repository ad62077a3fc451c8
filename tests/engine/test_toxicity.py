"""The RealToxicityPrompts protocol: what is asked and judged, what a row says, and going on after a kill."""

from __future__ import annotations

import copy
import hashlib
import json

import pytest

from pipeline_lib.core.errors import UserError
from pipeline_lib.data.records import Record
from pipeline_lib.data.toxicity_prompts import ToxicityPrompt
from pipeline_lib.engine import toxicity
from pipeline_lib.engine.classifiers.base import TextClassifier, Verdict
from pipeline_lib.engine.generation import generate, sample
from pipeline_lib.engine.settings import Decoding, Parts, Sampling
from pipeline_lib.engine.toxicity import Judge, ToxicitySettings, evaluate_toxicity

SETTINGS = {
    "samples": 3,
    "max_new_tokens": 6,
    "top_p": 0.9,
    "temperature": 1.0,
    "chat": False,
    "as_released": False,
    "max_tokens_per_batch": 200,
    "compute": "fp32",
}
PROMPTS = [
    ToxicityPrompt(f"p{i}", text, f"doc{i // 2}")
    for i, text in enumerate(
        ["The author of book 1", "Who", "A book about the river is", "Ada the elder", "Book"]
    )
]


class Counting(TextClassifier):
    """Scores a text by its length; knows what it was asked."""

    name = "counting 1"

    def __init__(self):
        self.asked = []

    def classify(self, texts):
        self.asked.append(list(texts))
        return [Verdict(min(1, len(t) / 100), min(1, len(t) / 50), len(t) > 12) for t in texts]


class Constant(Counting):
    def __init__(self, score):
        super().__init__()
        self.value = score

    def classify(self, texts):
        return [Verdict(self.value, self.value, False) for _ in texts]


def run(tiny, work_dir, classifier=None, prompts=PROMPTS, warning=None, fingerprint="m", **changes):
    return evaluate_toxicity(
        *tiny,
        prompts,
        Judge(classifier or Counting(), warning),
        ToxicitySettings(**{**SETTINGS, **changes}),
        Parts(work_dir, fingerprint),
        progress=False,
    )


def decode(tokenizer, answer):
    return tokenizer.decode(answer.tokens, skip_special_tokens=True)


def seed_of(prompt):
    return int.from_bytes(hashlib.sha256(prompt.id.encode()).digest()[:8], "big")


def samples_of(model, tokenizer, prompts, records):
    """What `sample` draws for these tokenised prompts under the settings of the tests."""
    return sample(
        model,
        prompts,
        Sampling(n=3, temperature=1.0, top_p=0.9),
        Decoding([tokenizer.eos_token_id], tokenizer.pad_token_id, 10_000),
        seeds=[seed_of(record) for record in records],
        max_new_tokens=6,
    )


def test_rows_hold_the_samples_of_bare_prompts_and_their_scores(tiny, tmp_path):
    model, tokenizer, _ = tiny
    classifier = Counting()
    rows = run(tiny, tmp_path, classifier)
    bare = [tokenizer.encode(p.prompt, add_special_tokens=False) for p in PROMPTS]
    drawn = samples_of(model, tokenizer, bare, PROMPTS)
    assert [row["samples"] for row in rows] == [[decode(tokenizer, a) for a in each] for each in drawn]
    assert [row["samples_ended"] for row in rows] == [[a.ended for a in each] for each in drawn]
    assert [(row["id"], row["group"], row["prompt"]) for row in rows] == [
        (p.id, p.group, p.prompt) for p in PROMPTS
    ]
    for row in rows:
        speaking = [text for text in row["samples"] if text.strip()]
        assert row["scores"] == [len(t) / 100 if t.strip() else 0.0 for t in row["samples"]]
        assert row["blank"] == 3 - len(speaking)
        assert row["truncated"] == sum(len(t) > 12 for t in speaking)
        assert "as_released" not in row
    assert len({text for row in rows for text in row["samples"]}) > 10
    json.dumps(rows, allow_nan=False)


def test_dropout_is_off(tiny, tmp_path):
    model = copy.deepcopy(tiny[0]).train()
    for layer in model.model.layers:
        layer.self_attn.attention_dropout = 0.5
    assert run((model, *tiny[1:]), tmp_path / "a") == run(tiny, tmp_path / "b")


def test_the_prompt_format_of_the_model_on_request(tiny, tmp_path, records):
    """Records serve as prompts too."""
    model, tokenizer, prompt_format = tiny
    chosen = [Record(r.id, r.prompt, r.answer, r.group) for r in records[:2]]
    rows = run(tiny, tmp_path, prompts=chosen, chat=True)
    prompts = [prompt_format.encode_prompt(tokenizer, r.prompt) for r in chosen]
    drawn = samples_of(model, tokenizer, prompts, chosen)
    expected = [[prompt_format.decode_answer(tokenizer, a.tokens) for a in each] for each in drawn]
    assert [row["samples"] for row in rows] == expected
    assert expected != [row["samples"] for row in run(tiny, tmp_path, prompts=chosen)]


def test_as_released_is_one_greedy_answer_up_to_200_tokens_by_its_largest_label(tiny, tmp_path, monkeypatch):
    model, tokenizer, _ = tiny
    monkeypatch.setattr(toxicity, "AS_RELEASED_TOKENS", 20)
    rows = run(tiny, tmp_path, as_released=True)
    for prompt, row in zip(PROMPTS, rows, strict=True):
        tokens = tokenizer.encode(prompt.prompt, add_special_tokens=False)
        alone = generate(
            model,
            [tokens],
            Decoding([tokenizer.eos_token_id], tokenizer.pad_token_id, 10_000),
            max_new_tokens=20 - len(tokens),
        )[0]
        text = decode(tokenizer, alone)
        score = min(1, len(text) / 50) if text.strip() else 0
        assert row["as_released"] == {"generation": text, "ended": alone.ended, "score": score}
    assert [row["samples"] for row in rows] == [row["samples"] for row in run(tiny, tmp_path)]


def test_batch_order_and_other_prompts_change_nothing(tiny, tmp_path, monkeypatch):
    rows = run(tiny, tmp_path / "a")
    monkeypatch.setattr(toxicity, "CHUNK", 2)
    backwards = run(tiny, tmp_path / "b", prompts=PROMPTS[::-1], max_tokens_per_batch=1)
    assert backwards[::-1] == rows
    assert run(tiny, tmp_path / "c", prompts=PROMPTS[3:4]) == rows[3:4]


def test_a_killed_job_goes_on_after_the_last_whole_chunk(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(toxicity, "CHUNK", 2)
    whole = run(tiny, tmp_path / "whole")

    class Killed(Counting):
        def classify(self, texts):
            if len(self.asked) == 2:
                raise KeyboardInterrupt
            return super().classify(texts)

    with pytest.raises(KeyboardInterrupt):
        run(tiny, tmp_path / "work", Killed())
    assert len(list((tmp_path / "work").iterdir())) == 2
    after = Counting()
    assert run(tiny, tmp_path / "work", after) == whole
    assert len(after.asked) == 1


@pytest.mark.parametrize(
    "change", [{"fingerprint": "other"}, {"top_p": 0.5}, {"prompts": PROMPTS[:2]}, {"chat": True}]
)
def test_a_part_of_something_else_is_not_used(tiny, tmp_path, change):
    run(tiny, tmp_path)
    again = Counting()
    run(tiny, tmp_path, again, **change)
    assert again.asked
    same = Counting()
    run(tiny, tmp_path, same)
    assert not same.asked


def test_a_model_that_says_nothing_is_counted(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(toxicity, "_text", lambda *_: " \n")
    row = run(tiny, tmp_path, Constant(0.9), prompts=PROMPTS[:1])[0]
    assert (row["scores"], row["blank"]) == ([0.0] * 3, 3)


def test_what_is_known_of_the_classifier_belongs_to_each_row(tiny, tmp_path):
    """Also to the rows of parts that were finished when less was known."""
    rows = run(tiny, tmp_path, warning="never validated")
    assert {(row["classifier"], row["classifier_warning"]) for row in rows} == {
        ("counting 1", "never validated")
    }
    assert {row["classifier_warning"] for row in run(tiny, tmp_path)} == {None}


@pytest.mark.parametrize("score", [1.5, -0.1, float("nan")])
def test_a_score_that_is_no_probability_is_an_error(tiny, tmp_path, score):
    with pytest.raises(UserError, match="from 0 to 1"):
        run(tiny, tmp_path, Constant(score))
    assert not list(tmp_path.iterdir())


def test_prompts_that_leave_no_room(tiny, tmp_path, monkeypatch):
    long = ToxicityPrompt("long", "Who wrote " * 60, "g")
    with pytest.raises(UserError, match=r"'long' has \d+ tokens.*context of 256"):
        run(tiny, tmp_path, prompts=[*PROMPTS, long], max_new_tokens=200)
    monkeypatch.setattr(toxicity, "AS_RELEASED_TOKENS", 15)
    with pytest.raises(UserError, match=r"as released ends at 15"):
        run(tiny, tmp_path, prompts=[*PROMPTS, long], max_new_tokens=1, as_released=True)
    monkeypatch.setattr(toxicity, "AS_RELEASED_TOKENS", 300)
    with pytest.raises(UserError, match=r"needs a context of 300 tokens, the model has 256"):
        run(tiny, tmp_path, as_released=True)
    with pytest.raises(UserError, match="no prompt"):
        run(tiny, tmp_path, prompts=[])
    assert not list(tmp_path.iterdir())
