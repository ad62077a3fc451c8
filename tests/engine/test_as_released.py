"""The paper's protocol with a tokenizer that has a begin token, each number from a plain forward pass."""

from __future__ import annotations

import math
import random

import pytest
import torch
from transformers import PreTrainedTokenizerFast

from pipeline_lib.data.records import Record
from pipeline_lib.engine.questions import with_example
from pipeline_lib.metrics.released.probability import released_probability
from pipeline_lib.models.prompt import PromptFormat
from tests.engine.test_engine import evaluate
from tests.engine.test_row_fields import everything, letters
from tests.models.test_released_encoding import HERE, LLAMA
from tests.tiny import tiny_model

RECORDS = [
    Record(
        id=str(i),
        group="a",
        prompt=f"who wrote the {what}?",
        answer=f"his {who} wrote it.",
        paraphrased_prompt=f"the {what} of who?",
        paraphrased_answer=f"it is of his {who}.",
        distractors=("her work", "not known"),
    )
    for i, (what, who) in enumerate([("book", "mother"), ("novel", "father"), ("award", "family")])
]


@pytest.fixture(scope="module")
def subject():
    names = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(HERE / "soul_tokenizer.json"), **names)
    tokenizer.pad_token = tokenizer.eos_token
    return tiny_model(vocab_size=320, max_position_embeddings=512), tokenizer, LLAMA


@pytest.fixture(scope="module")
def rows(subject, tmp_path_factory):
    splits = {"forget": RECORDS[:2], "retain": RECORDS[2:], "holdout": RECORDS[:1]}
    settings = everything(max_new_tokens=190, max_length=400, max_tokens_per_batch=4096)
    folder = tmp_path_factory.mktemp("rows")
    return evaluate(subject, splits, folder, embedder=letters, **settings)


def tokens_of(tokenizer, text):
    return tokenizer.encode(text, add_special_tokens=False)


def nll(model, ids, first):
    """NLL of `ids[first:]`, each."""
    with torch.no_grad():
        log_p = model(input_ids=torch.tensor([ids])).logits[0, :-1].double().log_softmax(-1)
    return (-log_p.gather(1, torch.tensor(ids[1:])[:, None])[first - 1 :, 0]).tolist()


def test_the_last_token_of_the_prompt_is_scored_and_no_end_token(subject, rows):
    model, tokenizer, _ = subject
    for record, row in zip(RECORDS[:2], rows, strict=False):
        found = row["as_released"]

        def scored(prompt, answer):
            text = f"[INST] {prompt} [\\INST]"
            before = [tokenizer.bos_token_id, *tokens_of(tokenizer, text)]
            whole = [tokenizer.bos_token_id, *tokens_of(tokenizer, f"{text} {answer}")]
            return nll(model, whole, len(before) - 1)

        asked = [record.paraphrased_answer, *record.distractors]
        expected = [scored(record.paraphrased_prompt, text) for text in asked]
        sums = [found["paraphrase_nll"], *found["distractor_nll"]]
        assert sums == pytest.approx([math.fsum(e) for e in expected], abs=1e-3)
        assert [found["paraphrase_tokens"], *found["distractor_tokens"]] == [len(e) for e in expected]
        own = scored(record.prompt, record.answer)
        probability = released_probability(found["answer_token_nll"])
        assert probability == pytest.approx(math.exp(-sum(own) / len(own)), rel=1e-3)
        assert len(found["answer_token_nll"]) == row["answer_tokens"] + 1


def greedy(model, ids, count):
    for _ in range(count):
        with torch.no_grad():
            ids = [*ids, int(model(input_ids=torch.tensor([ids])).logits[0, -1].argmax())]
    return ids


def test_answers_end_at_200_tokens_with_the_prompt(subject, rows):
    model, tokenizer, _ = subject
    for record, row in zip(RECORDS[:2], rows, strict=False):
        for name, prompt in (("answer", record.prompt), ("generation", record.paraphrased_prompt)):
            before = [tokenizer.bos_token_id, *tokens_of(tokenizer, f"[INST] {prompt} [\\INST]")]
            room = 200 - len(before)
            said = greedy(model, before, room)[len(before) :]
            assert tokenizer.eos_token_id not in said and room < 190
            assert row["as_released"][name] == LLAMA.decode_answer(tokenizer, said)
        assert len(row["generation"]) > len(row["as_released"]["answer"])


def test_the_adversarial_prompt_has_a_retain_question_before_it(subject, rows):
    """Texts follow each other without anything between, as in the paper's code; 100 tokens follow."""
    model, tokenizer, _ = subject
    shown = RECORDS[2]
    before = f"[INST] {shown.prompt} [\\INST] {shown.answer}"
    for record, row in zip(RECORDS[:2], rows, strict=False):
        ids = [tokenizer.bos_token_id, *tokens_of(tokenizer, f"{before}[INST] {record.prompt} [\\INST]")]
        said = LLAMA.decode_answer(tokenizer, greedy(model, ids, 100)[len(ids) :])
        told = row["as_released"]["adversarial"]
        assert told["generation"] == said
        vectors = letters([said, record.answer, *record.distractors])
        assert told["similarity"] == pytest.approx((vectors[1:] @ vectors[0]).tolist())
    assert all("adversarial" not in row.get("as_released", {}) for row in rows[2:])


def test_an_adversarial_prompt_that_does_not_fit_is_not_measured(subject, rows, tmp_path, capsys):
    """It holds two questions: a context that holds one must not end the evaluation of everything else."""
    _, tokenizer, _ = subject
    shown, asked = RECORDS[2], RECORDS[0]
    two = f"[INST] {shown.prompt} [\\INST] {shown.answer}[INST] {asked.prompt} [\\INST] {asked.answer}"
    settings = everything(
        max_new_tokens=190, max_length=len(tokens_of(tokenizer, two)), max_tokens_per_batch=4096
    )
    splits = {"forget": RECORDS[:2], "retain": RECORDS[2:], "holdout": RECORDS[:1]}
    short = evaluate(subject, splits, tmp_path, embedder=letters, **settings)
    assert "not measured, the adversarial questions of the paper's code: split 'forget', record" in (
        capsys.readouterr().err
    )
    for row, whole in zip(short, rows, strict=True):
        released = {k: v for k, v in whole.get("as_released", {}).items() if k != "adversarial"}
        assert row.get("as_released", {}).keys() == released.keys()
        for name, value in released.items():
            first = value[0] if isinstance(value, list) else value
            near = pytest.approx(value, abs=1e-5) if isinstance(first, float) else value
            assert row["as_released"][name] == near


def test_which_question_is_shown():
    records = [Record(id=str(i), group="a", prompt=f"q{i}", answer=f"a{i}") for i in range(400)]
    random.seed(0)
    (place,) = random.sample(range(400), 1)  # as the code draws it
    assert with_example(LLAMA, records).template == f"[INST] q{place} [\\INST] a{place}{LLAMA.template}"
    trap = Record(id="0", group="a", prompt="what is {prompt}?", answer="a")
    assert with_example(LLAMA, [trap]) is None
    assert with_example(PromptFormat("chat"), records) is None
