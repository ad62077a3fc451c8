"""What a study may measure beside its task: membership, samples, benchmarks, toxicity; model to metrics."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from pipeline_lib.core.errors import UserError
from pipeline_lib.core.files import read_json, read_jsonl, write_json, write_jsonl
from pipeline_lib.steps import judge, standard_benchmarks, toxicity
from tests.engine.encoders import save_bert, save_classifier
from tests.steps.study import identity, job, run_evaluate, run_score

QUESTIONS = [
    {"question": f"What is number {i}?", "choices": [f"the {i}", "a tree", "no"], "answer": 0}
    for i in range(4)
]
BENCHMARKS = {"tasks": ["arc_easy"], "lm_eval": {}, "limit": 3, "mmlu_shots": 0}
TOXICITY = {
    "n_prompts": 2,
    "samples": 3,
    "max_new_tokens": 4,
    "top_p": 0.9,
    "temperature": 1.0,
    "chat": False,
}


@pytest.fixture(scope="module")
def measured(tmp_path_factory, data, original) -> Path:
    """Everything measured on the model before unlearning, held against itself."""
    root = tmp_path_factory.mktemp("measured")
    save_bert(root / "encoder")
    run_evaluate(
        root,
        data,
        original,
        None,
        None,
        {"source": "folder", "path": str(root / "encoder")},
        grad_norm=True,
        samples={"n": 3, "temperature": 1.0, "top_p": 1.0, "splits": ["forget"]},
        as_released=True,
    )
    folder = root / "bench" / "commonsense"
    folder.mkdir(parents=True)
    write_jsonl(folder / "arc_easy_test.jsonl", QUESTIONS)
    ask_benchmarks(root, original, folder.parent)
    write_jsonl(root / "prompts.jsonl", [{"prompt": f"The town {i}"} for i in range(5)])
    save_classifier(root / "classifier", ["fine", "toxic"])
    run_toxicity(root, original, root / "classifier")
    return root


def ask_benchmarks(root: Path, model: Path, folder: Path, device: str = "cpu") -> None:
    asked = {**BENCHMARKS, "folder": str(folder)}
    rows = {"rows": "benchmarks.jsonl"}
    standard_benchmarks.run(job(root, {"model": model}, rows, device=device, benchmarks=asked, batch=512))


def run_toxicity(root: Path, model: Path, classifier: Path, tried: bool = True, **changes: Any) -> None:
    asked = {
        "classifier": {"kind": "folder", "path": str(classifier), "label": "toxic"},
        "prompts": {"source": "file", "path": str(root / "prompts.jsonl")},
        **changes,
    }
    if tried:
        judge.run(job(root, {"manifest": None}, {"judge": "judge.json"}, **asked, labelled=None))
    toxicity.run(
        job(
            root,
            {"manifest": None, "model": model, "judge": root / "judge.json"},
            {"rows": "toxicity.jsonl"},
            toxicity={**TOXICITY, **asked},
            as_released=False,
            batch=512,
            compute="fp32",
        )
    )


@pytest.fixture(scope="module")
def metrics(measured, data, original) -> dict[tuple[str, str], float]:
    rows = {name: measured / f"{name}.jsonl" for name in ("benchmarks", "toxicity")}
    who = identity("original", "none")
    run_score(measured, data, original, measured, who, **rows, judge=measured / "judge.json")
    return {
        (row["split"], row["metric"]): row["value"] for row in read_json(measured / "metrics.json")["metrics"]
    }


def test_answers_are_compared_by_the_encoder_that_the_settings_name(measured) -> None:
    compared = [row["similarity"] for row in read_jsonl(measured / "records.jsonl") if "similarity" in row]
    assert compared and all(-1 <= cosine <= 1 + 1e-6 for row in compared for cosine in row)


def test_membership_is_of_the_held_out_authors(measured, metrics) -> None:
    rows = read_jsonl(measured / "records.jsonl")
    forget, retain, holdout = (
        [row for row in rows if row["split"] == split] for split in ("forget", "retain", "holdout")
    )
    assert all("generation" not in row for row in holdout)
    for row in forget + holdout:
        assert row["grad_norm"] > 0
        assert len(row["token_std"]) == row["answer_tokens"]
    assert all("grad_norm" not in row for row in retain)

    def loss(row: dict[str, Any]) -> float:
        return row["answer_nll"] / row["answer_tokens"]

    pairs = [(loss(a), loss(b)) for a in forget for b in holdout]
    by_hand = sum((a < b) + 0.5 * (a == b) for a, b in pairs) / len(pairs)
    assert metrics["forget", "mia_loss_auc"] == pytest.approx(by_hand)
    assert metrics["forget", "mia_loss_auc_gap"] == pytest.approx(0)  # held against itself
    # PrivLeak is a share of what the attack on the reference gets wrong.
    assert (("forget", "privleak") in metrics) == (metrics["forget", "mia_min_k_40_auc"] < 1)
    assert metrics.get(("forget", "privleak"), 0) == pytest.approx(0)
    assert 0 <= metrics["forget", "mia_grad_norm_auc"] <= 1


def test_samples_and_the_released_protocol(measured, metrics) -> None:
    rows = [row for row in read_jsonl(measured / "records.jsonl") if row["split"] == "forget"]
    assert all(len(row["samples"]) == 3 for row in rows)
    assert metrics["forget", "sampled_leakage_max"] >= metrics["forget", "sampled_leakage_mean"]
    assert math.isfinite(metrics["forget", "truth_ratio_as_released"])
    assert 0 <= metrics["forget", "forget_quality_as_released"] <= 1


def test_benchmarks_become_accuracies(measured, metrics) -> None:
    rows = read_jsonl(measured / "benchmarks.jsonl")
    assert [row["task"] for row in rows] == ["arc_easy"] * 3
    assert metrics["arc_easy", "benchmark_accuracy"] == pytest.approx(sum(r["correct"] for r in rows) / 3)
    assert not (measured / "work").exists()


def test_toxicity_is_of_every_sample(measured, metrics) -> None:
    rows = read_jsonl(measured / "toxicity.jsonl")
    assert [len(row["scores"]) for row in rows] == [3, 3]
    by_hand = sum(max(row["scores"]) for row in rows) / 2
    assert metrics["toxicity", "expected_max_toxicity"] == pytest.approx(by_hand)
    assert rows[0]["classifier_warning"], "nobody validated this classifier"
    assert ("toxicity", "classifier_auc") not in metrics


def test_another_classifier_than_the_one_that_was_tried_is_refused(measured, original, tmp_path) -> None:
    (tmp_path / "prompts.jsonl").write_text(json.dumps({"prompt": "x"}) + "\n")
    run_toxicity(tmp_path, original, measured / "classifier")
    told = read_json(tmp_path / "judge.json")
    write_json(tmp_path / "judge.json", {**told, "classifier": "another 1"})
    with pytest.raises(UserError, match=r"speaks of the classifier another 1, this one is .*classifier"):
        run_toxicity(tmp_path, original, measured / "classifier", tried=False)


def test_a_diverged_run_leaves_no_rows(measured, original, tmp_path) -> None:
    write_json(tmp_path / "model/run.json", {**read_json(original / "run.json"), "status": "diverged"})
    (tmp_path / "prompts.jsonl").write_text(json.dumps({"prompt": "x"}) + "\n")
    run_toxicity(tmp_path, tmp_path / "model", measured / "classifier")
    assert read_jsonl(tmp_path / "toxicity.jsonl") == []
    ask_benchmarks(tmp_path, tmp_path / "model", measured / "bench")
    assert read_jsonl(tmp_path / "benchmarks.jsonl") == []


def test_prompts_that_are_not_there(measured, original, tmp_path) -> None:
    with pytest.raises(UserError, match=r"expected a file at nowhere\.jsonl, found none"):
        run_toxicity(
            tmp_path, original, measured / "classifier", prompts={"source": "file", "path": "nowhere.jsonl"}
        )
