"""The engine's rows, its settings, and that a killed job continues with the same rows."""

from __future__ import annotations

import copy

import numpy as np
import pytest

from pipeline_lib.core.errors import UserError
from pipeline_lib.data.records import Record
from pipeline_lib.engine.evaluate import evaluate_model
from pipeline_lib.engine.settings import Parts, spread_over_groups
from pipeline_lib.engine.split_run import SplitRun
from tests.engine.conftest import SETTINGS, make_records, settings_of
from tests.metrics.scored import score_run

FIELDS = {
    *("id", "group", "split", "prompt", "answer", "generation"),
    *("answer_nll", "answer_tokens", "paraphrase_nll", "paraphrase_tokens"),
    *("distractor_nll", "distractor_tokens", "token_nll", "argmax_correct"),
    *("generation_tokens", "generation_ended", "round_trips"),
}


def evaluate(setup, splits, folder, fingerprint="weights", embedder=None, **changes):
    model, tokenizer, prompt_format = setup
    settings, parts = settings_of({**SETTINGS, **changes}), Parts(folder, fingerprint)
    return evaluate_model(model, tokenizer, prompt_format, splits, settings, parts, embedder, progress=False)


@pytest.fixture
def evaluated(monkeypatch) -> list[str]:
    """Names of the splits for which the model really ran, in order."""
    names: list[str] = []
    whole = SplitRun.rows

    def noting(run, bar):
        rows = whole(run, bar)
        names.append(run.split)
        return rows

    monkeypatch.setattr(SplitRun, "rows", noting)
    return names


@pytest.fixture
def splits(records):
    return {"forget": records[:3], "retain": records[3:]}


def test_rows_of_the_contract(tiny, splits, records, tmp_path):
    rows = evaluate(tiny, splits, tmp_path)
    assert [row["id"] for row in rows] == [record.id for record in records]
    for row, record in zip(rows, records, strict=True):
        assert set(row) == FIELDS
        assert len(row["token_nll"]) == len(row["argmax_correct"]) == row["answer_tokens"]
        assert sum(row["token_nll"]) == pytest.approx(row["answer_nll"])
        assert len(row["distractor_nll"]) == len(row["distractor_tokens"]) == len(record.distractors)
        assert row["generation_tokens"] <= 6
        assert row["prompt"] == record.prompt


def test_without_a_paraphrase_the_answer_stands_in(tiny, splits, tmp_path):
    rows = {row["id"]: row for row in evaluate(tiny, splits, tmp_path)}
    assert rows["q2"]["paraphrase_nll"] == rows["q2"]["answer_nll"]
    assert rows["q2"]["paraphrase_tokens"] == rows["q2"]["answer_tokens"]
    assert rows["q1"]["paraphrase_nll"] != rows["q1"]["answer_nll"]


def test_rows_can_be_scored(tiny, splits, tmp_path):
    rows = evaluate(tiny, splits, tmp_path)
    manifest = {"evaluate": ["forget", "retain"], "utility": ["retain"], "multiple_choice": []}
    found = {(m["split"], m["metric"]): m["value"] for m in score_run(rows, rows, manifest)}
    assert found["forget", "forget_quality"] == 1.0
    assert 0 <= found["utility", "model_utility"] < 1


def test_a_killed_job_continues_with_the_same_rows(tiny, splits, tmp_path, evaluated, monkeypatch):
    undisturbed = evaluate(tiny, splits, tmp_path / "a")
    evaluated.clear()
    with monkeypatch.context() as killed:
        ask = SplitRun._ask

        def kill(run, *arguments):
            if run.split == "retain":
                raise KeyboardInterrupt
            return ask(run, *arguments)

        killed.setattr(SplitRun, "_ask", kill)
        with pytest.raises(KeyboardInterrupt):
            evaluate(tiny, splits, tmp_path / "b")
    assert evaluated == ["forget"]
    assert evaluate(tiny, splits, tmp_path / "b") == undisturbed
    assert evaluated == ["forget", "retain"]
    assert evaluate(tiny, splits, tmp_path / "b") == undisturbed
    assert evaluated == ["forget", "retain"]


@pytest.mark.parametrize(
    "change",
    [
        {"fingerprint": "other"},
        {"max_new_tokens": 5},
        {"max_records": {"forget": 2}},
        {"compute": "bf16"},
        {"distribution_splits": ["forget"]},
        {"as_released": True},
        {"embedder": lambda texts: np.ones((len(texts), 1))},
    ],
)
def test_parts_of_another_model_or_setting_are_not_reused(tiny, splits, tmp_path, change, evaluated):
    evaluate(tiny, splits, tmp_path)
    evaluated.clear()
    evaluate(tiny, splits, tmp_path, **change)
    assert "forget" in evaluated


def test_parts_of_changed_records_are_not_reused(tiny, splits, records, tmp_path):
    evaluate(tiny, splits, tmp_path)
    changed = {"forget": [*records[:2], make_records(12)[11]], "retain": records[3:]}
    assert [row["id"] for row in evaluate(tiny, changed, tmp_path)][:3] == ["q0", "q1", "q11"]


def test_limits_of_each_split(tiny, splits, tmp_path):
    rows = evaluate(
        tiny, splits, tmp_path, max_new_tokens={"forget": 2, "retain": 4}, max_records={"retain": 3}
    )
    assert [row["split"] for row in rows] == ["forget"] * 3 + ["retain"] * 3
    assert max(row["generation_tokens"] for row in rows if row["split"] == "forget") <= 2
    assert max(row["generation_tokens"] for row in rows if row["split"] == "retain") in (3, 4)


def test_records_are_spread_evenly_over_groups_in_order():
    records = [Record(f"{group}{i}", "p", "a", group) for group in "abcd" for i in range(20)]
    picked = spread_over_groups(records, 8)
    assert [record.id for record in picked] == ["a5", "a15", "b5", "b15", "c5", "c15", "d5", "d15"]
    assert {record.group for record in spread_over_groups(records, 4)} == set("abcd")
    assert spread_over_groups(records, 100) == records
    mixed = sorted(records, key=lambda record: record.id[1:])
    assert sorted(r.group for r in spread_over_groups(mixed, 8)) == list("aabbccdd")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"max_new_tokens": {"forget": 3}}, "no limit for split 'retain'"),
        ({"max_records": {"retain": 0}}, "must be at least 1, found 0"),
        ({"compute": "fp8"}, "'fp32' or 'bf16', found 'fp8'"),
        ({"max_new_tokens": 250}, r"record 'q\d'.*context of 256 tokens"),
        ({"max_length": 10}, r"split 'forget', record 'q0'.*context holds 10"),
    ],
)
def test_settings_that_cannot_work_are_refused(tiny, splits, tmp_path, change, message):
    with pytest.raises(UserError, match=message):
        evaluate(tiny, splits, tmp_path, **change)


def test_an_empty_split_is_refused(tiny, splits, tmp_path):
    with pytest.raises(UserError, match="split 'retain': expected at least one record, found none"):
        evaluate(tiny, {**splits, "retain": []}, tmp_path)


def test_a_broken_model_leaves_no_part(tiny, splits, tmp_path):
    model, tokenizer, prompt_format = tiny
    broken = copy.deepcopy(model)
    broken.model.norm.weight.data[0] = float("nan")
    with pytest.raises(UserError, match=r"split 'forget', record 'q.'.*not a finite number"):
        evaluate((broken, tokenizer, prompt_format), splits, tmp_path)
    assert list(tmp_path.iterdir()) == []
