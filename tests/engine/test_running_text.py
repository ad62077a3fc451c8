"""Records of running text: likelihood of the continuation, the greedy one of the same length, and metrics."""

from __future__ import annotations

import copy
import random
from dataclasses import replace

import pytest
import torch

from pipeline_lib.core.errors import UserError
from pipeline_lib.data.batching import collate
from pipeline_lib.data.records import Record
from pipeline_lib.data.texts import chunks
from pipeline_lib.engine.equal_retain import rows_at_equal_retain
from pipeline_lib.engine.evaluate import evaluate_model
from pipeline_lib.engine.generation import generate
from pipeline_lib.engine.settings import Decoding, Parts
from pipeline_lib.models.encoding import encode_records
from pipeline_lib.models.forward import summed_nll
from pipeline_lib.tasks.passages import passage_records
from pipeline_lib.tasks.passages.story import story
from tests.engine.conftest import SETTINGS, settings_of
from tests.metrics.scored import score_run

TOLERANCE = 1e-4  # nats
MANIFEST = {
    "evaluate": ["forget", "retain", "holdout"],
    "utility": [],
    "multiple_choice": [],
    "likelihood_only": ["holdout"],
    "membership": {"members": "forget", "nonmembers": "holdout"},
}


def passages(n: int, size: int = 14, prompt: int = 6, world: str = "book") -> list[Record]:
    found = chunks(story(0, world, n * size), size)[:n]
    return passage_records([(f"part-{i // 2}", chunk) for i, chunk in enumerate(found)], prompt)


@pytest.fixture(scope="module", params=["tiny", "smollm2"])
def case(request):
    return request.getfixturevalue(request.param)


def evaluate(setup, splits, folder, **changes):
    settings = {**SETTINGS, "max_new_tokens": 1000, "max_length": 400, **changes}
    return evaluate_model(*setup, splits, settings_of(settings), Parts(folder, "w"), progress=False)


def assert_same(rows, others):
    expected = {row["id"]: row for row in others}
    assert len(rows) == len(expected) > 0
    for row in rows:
        other = expected[row["id"]]
        assert row["token_nll"] == pytest.approx(other["token_nll"], abs=TOLERANCE, rel=0)
        assert {k: row[k] for k in ("generation", "reference", "argmax_correct")} == {
            k: other[k] for k in ("generation", "reference", "argmax_correct")
        }


def test_scores_and_continuations_do_not_depend_on_batch_order_or_company(case, tmp_path):
    records = [*passages(5), *[replace(r, id=f"{r.id}-x") for r in passages(2, 30, 3)]]
    changes = {"max_length": 400, "max_new_tokens": 9}
    expected = evaluate(case, {"forget": records}, tmp_path / "a", **changes)
    shuffled = random.Random(1).sample(records, len(records))
    assert_same(evaluate(case, {"forget": shuffled}, tmp_path / "b", **changes), expected)
    small = evaluate(case, {"forget": records}, tmp_path / "c", **changes, max_tokens_per_batch=1)
    assert_same(small, expected)
    alone = [evaluate(case, {"forget": [r]}, tmp_path / r.id, **changes)[0] for r in records[-2:]]
    assert_same(alone, expected[-2:])


def test_a_row_by_hand(case, tmp_path):
    """Teacher-forced likelihood of the continuation in the whole text, and plain greedy decoding."""
    model, tokenizer, prompt_format = case
    records = passages(3)
    rows = evaluate(case, {"forget": records}, tmp_path)
    for record, row in zip(records, rows, strict=True):
        ids = tokenizer.encode(record.prompt + record.answer)
        start = len(tokenizer.encode(record.prompt))  # the cut is before a space: no token lies across
        with torch.no_grad():
            log_p = model(input_ids=torch.tensor([ids])).logits[0].double().log_softmax(-1)
        nll = [-float(log_p[t - 1, ids[t]]) for t in range(start, len(ids))]
        assert row["token_nll"] == pytest.approx(nll, abs=TOLERANCE)
        assert row["answer_tokens"] == len(ids) - start  # no end token
        limit = len(ids) - start
        greedy = generate(
            model,
            [ids[:start]],
            Decoding([tokenizer.eos_token_id], 0, 1),
            max_new_tokens=limit,
        )[0]
        assert row["generation"] == prompt_format.decode_text(tokenizer, ids[:start], greedy.tokens)
        assert row["generation_tokens"] <= limit
        assert row["reference"] == record.answer
        assert row["round_trips"] is True
        assert (row["distractor_nll"], row["paraphrase_nll"]) == ([], row["answer_nll"])
        assert "generation_ended" not in row


def test_where_less_is_asked_for_the_true_continuation_is_cut_to_as_many_tokens(tiny, tmp_path):
    _, tokenizer, _ = tiny
    records = passages(3)
    rows = evaluate(tiny, {"forget": records}, tmp_path, max_new_tokens=7)
    for record, row in zip(records, rows, strict=True):
        ids = tokenizer.encode(record.prompt + record.answer)
        start = len(tokenizer.encode(record.prompt))
        assert row["reference"] == tokenizer.decode(ids[start : start + 7])
        assert record.answer.startswith(row["reference"])
        assert row["generation_tokens"] <= 7
        assert row["answer"] == record.answer  # likelihoods are of all of it
        assert row["answer_tokens"] == len(ids) - start


def test_no_more_room_is_needed_than_the_true_continuation_takes(tiny, tmp_path):
    """A record that fills the context to its last token can be continued, whatever the limit says."""
    _, tokenizer, _ = tiny
    text = story(0, "book", 200)
    ends = tokenizer(text, return_offsets_mapping=True)["offset_mapping"]
    fits = text[: ends[255][1]]  # 256 tokens
    record = Record("r", fits[:100], fits[100:], "g", form="text")
    row = evaluate(tiny, {"forget": [record]}, tmp_path)[0]
    assert row["reference"] == record.answer
    asked = Record("q", fits[:100], "No.", "g")
    with pytest.raises(UserError, match="do not fit the model's context"):
        evaluate(tiny, {"forget": [asked]}, tmp_path)


def test_the_released_protocol_asks_nothing_more_of_running_text(tiny, tmp_path):
    rows = evaluate(tiny, {"forget": passages(2)}, tmp_path, as_released=True)
    assert all("as_released" not in row for row in rows)
    metrics = score_run(
        rows, None, MANIFEST | {"evaluate": ["forget"], "membership": None, "likelihood_only": []}
    )
    assert not [row for row in metrics if row["metric"].endswith("_as_released")]


def test_questions_and_running_text_in_one_split_are_refused(tiny, tmp_path):
    with pytest.raises(UserError, match="split 'retain': its records are questions and running text"):
        evaluate(tiny, {"retain": [*passages(1), Record("q", "Who?", "Anna.", "g")]}, tmp_path)


def test_a_text_longer_than_the_context_is_refused_by_name(tiny, tmp_path):
    with pytest.raises(UserError, match=r"split 'forget', record 'chunk-0000000' needs \d+ tokens"):
        evaluate(tiny, {"forget": passages(1, size=60)}, tmp_path, max_length=100)


@pytest.fixture(scope="module")
def learned(tiny):
    """The tiny model after it has learned two passages by heart, as running text."""
    model, (tokenizer, prompt_format) = copy.deepcopy(tiny[0]), tiny[1:]
    batch = collate(encode_records(passages(2), tokenizer, prompt_format, 200, learn=True), pad_id=0)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(120):
        optimizer.zero_grad()
        summed_nll(model, batch).sum().backward()
        optimizer.step()
    return model, tokenizer, prompt_format


@pytest.fixture(scope="module")
def splits():
    other = passages(8, 30)
    return {"forget": passages(2), "retain": passages(3, world="elsewhere"), "holdout": other[4:]}


def by_name(metrics):
    return {(row["split"], row["metric"]): row["value"] for row in metrics}


def test_what_is_learned_by_heart_is_extracted(tiny, learned, splits, tmp_path):
    changes = {"likelihood_only": ["holdout"], "distribution_splits": ["forget", "holdout"]}
    target = evaluate(learned, splits, tmp_path / "a", **changes)
    retrained = evaluate(tiny, splits, tmp_path / "b", **changes)
    found = by_name(score_run(target, retrained, MANIFEST))
    for metric in ("rouge_l_recall", "rouge_l_f1", "extraction_rate", "extraction_strength"):
        assert found["forget", metric] == 1.0, metric
    assert found["forget", "bleu"] == pytest.approx(100)
    words = [len(record.answer.split()) for record in splits["forget"]]
    assert found["forget", "longest_match"] == sum(words) / 2  # words without apostrophes
    assert found["retain", "extraction_rate"] == 0.0
    assert found["forget", "ks_statistic_likelihood"] == 1.0
    assert found["forget", "mia_loss_auc"] == 1.0
    assert ("forget", "privleak") in found
    for missing in (
        "truth_ratio",
        "forget_quality",
        "ended",
        "truncated_answers",
        "multiple_choice_accuracy",
    ):
        assert ("forget", missing) not in found
    assert ("utility", "model_utility") not in found

    same = by_name(score_run(target, target, MANIFEST))
    assert same["forget", "ks_statistic_likelihood"] == 0.0
    assert same["forget", "forget_quality_likelihood_log10"] == 0.0


def test_without_a_retrained_model_nothing_compares_with_it(learned, splits, tmp_path):
    changes = {"likelihood_only": ["holdout"], "distribution_splits": ["forget", "holdout"]}
    rows = evaluate(learned, splits, tmp_path, **changes)
    found = by_name(score_run(rows, None, MANIFEST))
    assert ("forget", "mia_loss_auc") in found
    compared = ("likelihood", "gap", "privleak", "forget_quality", "ks_statistic", "mia_reference")
    assert not [metric for _, metric in found if any(part in metric for part in compared)]


def test_at_equal_retention(tiny, learned, splits, tmp_path):
    """The model that learned the passages, carried back to the one that did not."""
    settings = {**SETTINGS, "max_new_tokens": 5, "likelihood_only": ["holdout"]}
    asked = {name: splits[name] for name in ("forget", "retain")}
    content = rows_at_equal_retain(
        lambda: copy.deepcopy(tiny[0]), learned[0], *tiny[1:], asked, settings_of(settings), bound=0.2
    )
    rows = evaluate(tiny, splits, tmp_path, likelihood_only=["holdout"])
    found = by_name(score_run(rows, rows, MANIFEST, {"status": "ok", **content}))
    assert 0 <= found["run", "equal_retain_mix"] <= 2
    for metric in ("probability", "ks_statistic_likelihood", "forget_quality_likelihood_log10"):
        assert ("forget", f"{metric}_at_equal_retain") in found
    assert ("forget", "ks_statistic_at_equal_retain") not in found


def test_samples_are_compared_with_what_was_asked_for(tiny, tmp_path):
    samples = {"n": 3, "temperature": 1.0, "top_p": 1.0, "splits": ["forget"]}
    rows = evaluate(tiny, {"forget": passages(2)}, tmp_path, max_new_tokens=4, samples=samples)
    manifest = MANIFEST | {"evaluate": ["forget"], "membership": None, "likelihood_only": []}
    for row in rows:
        row["samples"] = [row["reference"]] * 3
    assert by_name(score_run(rows, None, manifest))["forget", "sampled_leakage_mean"] == 1.0
