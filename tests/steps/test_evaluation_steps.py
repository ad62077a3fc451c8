"""Evaluation and scoring of one model, with and without the comparison at equal retention."""

from __future__ import annotations

import weakref
from pathlib import Path
from typing import Any

import pytest

from pipeline_lib.core.files import read_json, read_jsonl, write_json
from pipeline_lib.steps import evaluate
from tests.steps.study import identity, run_evaluate, run_finetune, run_score, run_unlearn

BOUND = 0.1


def evaluated(root: Path, data: Path, model: Path, original: Path | None) -> dict[str, Any]:
    """Evaluate into `root` and return the content of equal_retain.json."""
    run_evaluate(root, data, model, original, None if original is None else BOUND)
    assert not (root / "work").exists()
    return read_json(root / "equal_retain.json")


def scored(root: Path, data: Path, model: Path, reference: Path) -> dict[tuple[str, str], dict[str, Any]]:
    """Score what is in `root` and return the metrics by split and name."""
    run_score(root, data, model, reference, identity("GradAscent", "adamw"))
    return {(row["split"], row["metric"]): row for row in read_json(root / "metrics.json")["metrics"]}


@pytest.fixture(scope="module")
def unlearned(tmp_path_factory, data, original) -> Path:
    return run_unlearn(tmp_path_factory.mktemp("unlearned"), data, original, "GradAscent", "adamw", 1e-2)


@pytest.fixture(scope="module")
def retrained(tmp_path_factory, data) -> Path:
    """Folder of the retrained model's records."""
    folder = tmp_path_factory.mktemp("retrained")
    model = run_finetune(folder, data, "retrained")
    assert evaluated(folder, data, model, None) == {"status": "off"}
    return folder


def test_from_a_model_to_metrics_at_equal_retention(
    tmp_path, data, original, unlearned, retrained, monkeypatch
):
    loaded: list[weakref.ref] = []
    load = evaluate.load_for_evaluation

    def counting(folder, place):
        assert sum(model() is not None for model in loaded) <= 1, "a third model is in memory"
        found = load(folder, place)
        loaded.append(weakref.ref(found[0]))
        return found

    monkeypatch.setattr(evaluate, "load_for_evaluation", counting)
    content = evaluated(tmp_path, data, unlearned, original)
    assert content["status"] == "ok" and len(loaded) == 1 + 1 + 1 + 7 + 1
    tried = dict(content["tried"])
    assert tried[content["mix"]] >= (1 - BOUND) * tried[0.0] > tried[content["mix"] + 1 / 128]
    records = read_jsonl(tmp_path / "records.jsonl")
    assert [r["id"] for r in content["forget"]] == [r["id"] for r in records if r["split"] == "forget"]

    found = scored(tmp_path, data, unlearned, retrained)
    assert found["run", "equal_retain_mix"]["value"] == content["mix"]
    assert found["retain", "probability_at_equal_retain"]["value"] == pytest.approx(tried[content["mix"]])
    lost, whole = (found["forget", f"probability{suffix}"]["value"] for suffix in ("_at_equal_retain", ""))
    assert whole < lost, "less is forgotten where more is retained"


def test_without_it_the_metrics_are_the_usual_ones(tmp_path, data, unlearned, retrained):
    assert evaluated(tmp_path, data, unlearned, None) == {"status": "off"}
    names = {metric for _, metric in scored(tmp_path, data, unlearned, retrained)}
    assert "ks_statistic" in names and not any("equal_retain" in name for name in names)


def test_a_diverged_run_has_none(tmp_path, data, original, retrained):
    model = tmp_path / "model"
    write_json(model / "run.json", {"status": "diverged", "diverged_step": 3})
    assert evaluated(tmp_path, data, model, original) == {"status": "diverged"}
    assert read_jsonl(tmp_path / "records.jsonl") == []
    assert scored(tmp_path, data, model, retrained) == {}


def test_the_bound_and_the_original_go_together(tmp_path, data, original):
    with pytest.raises(ValueError, match="needs the original model"):
        run_evaluate(tmp_path, data, original, None, BOUND)


def test_by_likelihood_alone_true_answers_have_the_same_likelihood_and_none_is_written(
    tmp_path, data, unlearned, retrained
):
    whole, alone, reference = (tmp_path / name for name in ("whole", "alone", "reference"))
    run_evaluate(whole, data, unlearned, None, None)
    run_evaluate(alone, data, unlearned, None, None, likelihood_only=True)
    run_evaluate(reference, data, retrained / "model", None, None, likelihood_only=True)
    before, rows = (read_jsonl(folder / "records.jsonl") for folder in (whole, alone))
    assert [row["id"] for row in rows] == [row["id"] for row in before]
    for one, other in zip(before, rows, strict=True):
        assert other["answer_nll"] == pytest.approx(one["answer_nll"], rel=1e-5)
        assert "generation" not in other
        options = one["distractor_nll"] if one["split"] == "facts" else []
        assert other["distractor_nll"] == pytest.approx(options, rel=1e-5)

    found = scored(alone, data, unlearned, reference)
    full = scored(whole, data, unlearned, retrained)
    for key in (("forget", "probability"), ("retain", "probability"), ("facts", "probability")):
        assert found[key]["value"] == pytest.approx(full[key]["value"], rel=1e-5), key
    assert ("forget", "mia_loss_auc") in found
    assert not any("rouge" in name or "utility" in name for _, name in found)
    assert {split for split, name in found if "truth_ratio" in name} == {"facts"}, "whose options are scored"
    lacks = {lack["metric"] for lack in read_json(alone / "metrics.json")["not_measured"]}
    assert "ks_statistic" in lacks
