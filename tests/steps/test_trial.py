"""A tuning trial is the run that the unlearning step would make, and the choice is made from its scores."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline_lib.core.errors import UserError
from pipeline_lib.core.files import read_json, read_jsonl, write_json
from pipeline_lib.core.sealing import write_sealed_jsonl
from pipeline_lib.data.task_folder import load_splits
from pipeline_lib.engine.evaluate import evaluate_model
from pipeline_lib.engine.settings import EvaluationSettings, Parts
from pipeline_lib.metrics.questions import NAMES
from pipeline_lib.metrics.scores import score_all
from pipeline_lib.models.folder import load_model_folder
from pipeline_lib.steps import choose, trial, unlearn
from pipeline_lib.steps.likelihood_scores import LIKELIHOODS
from pipeline_lib.steps.unlearning import Unlearned
from tests.steps.study import (
    OBJECTIVES,
    OPTIMIZERS,
    TRAINING,
    identity,
    job,
    run_finetune,
    run_unlearn,
    unlearning_job,
)

EVALUATION = {"max_records": {"retain": 3}, "max_tokens_per_batch": 512}
UNLEARN = {**TRAINING, "weights": "fp32", "lora": None}
RATE = 3e-3


def run_trial(
    root: Path,
    data: Path,
    parent: Path,
    optimizer: str = "adamw",
    rate: float = RATE,
    number: int = 1,
) -> dict[str, Any]:
    settings = {**OPTIMIZERS[optimizer], "learning_rate": rate, "weight_decay": 0.1}
    trial.run(
        job(
            root,
            {"manifest": data / "manifest.json", "parent": parent},
            {"trial": f"trial{number}.json"},
            {**identity("GradDiff", optimizer), "trial": number},
            tuned={"optimizer": {"learning_rate": rate}, "objective": {}},
            objective=OBJECTIVES["GradDiff"],
            optimizer=settings,
            unlearn=UNLEARN,
            evaluation=EVALUATION,
            max_length=160,
        )
    )
    assert not (root / "work").exists()
    return read_json(root / f"trial{number}.json")


def records_of(root: Path, data: Path, folder: Path) -> Path:
    """records.jsonl of a model, as the evaluation step writes it."""
    model, tokenizer, prompt_format, _ = load_model_folder(folder)
    splits = load_splits(data, read_json(data / "manifest.json")["evaluate"])
    settings = EvaluationSettings(
        **EVALUATION,
        max_new_tokens=2,
        max_length=160,
        compute="fp32",
        likelihood_only=["holdout"],
        distribution_splits=["forget", "holdout"],
        grad_norm_splits=[],
        samples=None,
        as_released=False,
    )
    rows = evaluate_model(model, tokenizer, prompt_format, splits, settings, Parts(root / "work", ""))
    write_sealed_jsonl(root / "records.jsonl", rows)
    return root / "records.jsonl"


def run_chosen(root: Path, data: Path, parent: Path, **learning_rate: float) -> dict[str, Any]:
    """run.json of the run that takes its other settings from chosen.json."""
    stepper = {**OPTIMIZERS["adamw"], "weight_decay": 0.1, **learning_rate}
    run = unlearning_job(root, data, parent, identity("GradDiff", "adamw"), OBJECTIVES["GradDiff"], stepper)
    unlearn.run(replace(run, inputs={**run.inputs, "chosen": root / "chosen.json"}))
    return read_json(root / "training" / "run.json")


@pytest.fixture(scope="module")
def retrained(tmp_path_factory, data) -> Path:
    """Records of the model that never saw the forget set."""
    root = tmp_path_factory.mktemp("retrained")
    return records_of(root, data, run_finetune(root, data, "retrained"))


@pytest.fixture(scope="module")
def anchors(tmp_path_factory, data, original, retrained) -> tuple[Path, Path]:
    """Records of `original` and of `retrained`."""
    return records_of(tmp_path_factory.mktemp("evaluated"), data, original), retrained


@pytest.mark.parametrize("optimizer", ["adamw", "sophia_as_released"])
def test_a_trial_scores_as_the_run_and_its_evaluation_do(optimizer, original, data, retrained, tmp_path):
    found = run_trial(tmp_path, data, original, optimizer)
    model = run_unlearn(tmp_path, data, original, "GradDiff", optimizer, rate=RATE)
    manifest = read_json(data / "manifest.json")
    rows = read_jsonl(records_of(tmp_path, data, model))
    scored = score_all(rows, read_jsonl(retrained), manifest)
    asked = {"forget": 4, "retain": 3, "facts": 3}
    expected = [line for line in scored.questions if line["split"] in asked]
    assert found["records"] == asked and len(found["questions"]) == len(expected) == 10
    for line, of_run in zip(found["questions"], expected, strict=True):
        assert [line[name] for name in NAMES] == [of_run[name] for name in NAMES]
        for name in LIKELIHOODS:
            assert line[name] == pytest.approx(of_run[name], rel=1e-4), line["id"]
    log = read_jsonl(tmp_path / "training" / "steps.jsonl")
    shares = [row["clipped_share"] for row in log if row["clipped_share"] is not None]
    assert found["clipped_share"] == (pytest.approx(sum(shares) / len(shares)) if shares else None)
    assert bool(shares) == (optimizer != "adamw")
    assert (found["status"], found["diverged_step"], found["steps"]) == ("ok", None, len(log))
    assert found["settings"]["optimizer"]["learning_rate"] == RATE


def test_other_answers_are_read_where_the_probability_needs_them_alone(original, data, tmp_path, monkeypatch):
    scored: dict[str, set[int]] = {}
    once = trial.LikelihoodReader
    monkeypatch.setattr(
        trial,
        "LikelihoodReader",
        lambda *a: scored.update({a[2]: {len(record.distractors) for record in a[3]}}) or once(*a),
    )
    run_trial(tmp_path, data, original)
    assert scored == {"forget": {0}, "retain": {0}, "facts": {3}}


def test_a_trial_that_diverges_is_a_result(original, data, tmp_path):
    found = run_trial(tmp_path, data, original, rate=1e30)
    assert found["status"] == "diverged" and found["diverged_step"] in (1, 2)
    assert found["questions"] is None
    assert found["records"] == {"forget": 4, "retain": 3, "facts": 3}


def run_later(root: Path, data: Path, parent: Path, skipped: bool) -> dict[str, Any]:
    """A trial of the second round, half way up its row's range on a log scale."""
    range_ = {"low": 1e-3, "high": 9e-3, "scale": "log"}
    ranges = {"mine": {"optimizer": {"learning_rate": range_}, "objective": {}}, "other": {}}
    write_json(root / "round2.json", {"skipped": skipped, "ranges": ranges})
    inputs = {"manifest": data / "manifest.json", "parent": parent, "ranges": root / "round2.json"}
    trial.run(
        job(
            root,
            inputs,
            {"trial": "trial5.json"},
            {**identity("GradDiff", "adamw"), "trial": 5},
            **{"places": {"optimizer": {"learning_rate": 0.5}, "objective": {}}, "row": "mine"},
            objective=OBJECTIVES["GradDiff"],
            optimizer={**OPTIMIZERS["adamw"], "learning_rate": 1.0, "weight_decay": 0.1},
            unlearn=UNLEARN,
            evaluation=EVALUATION,
            max_length=160,
        )
    )
    return read_json(root / "trial5.json")


def test_a_trial_of_a_later_round_is_that_of_the_value_at_its_place(original, data, tmp_path):
    found = run_later(tmp_path, data, original, skipped=False)
    assert found["tuned"] == {"optimizer": {"learning_rate": 3e-3}, "objective": {}}
    assert found["settings"]["optimizer"]["learning_rate"] == 3e-3
    assert found["questions"] == run_trial(tmp_path, data, original, rate=3e-3)["questions"]


def test_a_trial_of_a_round_that_is_skipped_trains_nothing(original, data, tmp_path, monkeypatch):
    monkeypatch.delattr(trial, "unlearn_model")
    found = run_later(tmp_path, data, original, skipped=True)
    assert found == {**identity("GradDiff", "adamw"), "trial": 5, "status": "skipped"}


def test_weights_that_give_no_number_are_lost_too(original, data, tmp_path, monkeypatch):
    """The last step can leave finite weights whose output overflows; the loop does not see it."""

    def overflowing(*arguments: Any) -> Unlearned:
        done = once(*arguments)
        with torch.no_grad():
            done.model.get_decoder().norm.weight.fill_(3e38)
        return done

    once = trial.unlearn_model
    monkeypatch.setattr(trial, "unlearn_model", overflowing)
    found = run_trial(tmp_path, data, original)
    assert (found["status"], found["diverged_step"], found["steps"]) == ("diverged", 3, 3)
    assert found["questions"] is None


def test_an_error_about_something_else_is_not_hidden(original, data, tmp_path, monkeypatch):
    def refuse(*arguments: Any, **settings: Any) -> None:
        raise UserError("no memory")

    monkeypatch.setattr(trial.LikelihoodReader, "rows", refuse)
    with pytest.raises(UserError, match="no memory"):
        run_trial(tmp_path, data, original)
    assert not (tmp_path / "trial1.json").exists()


# --- the choice, and the run that uses it -------------------------------------------------------------


SELECT = {"forget": "gap", "utility_within": 0.5}
RANGES = {"optimizer": {"learning_rate": {"low": 1e-5, "high": 1e-2, "scale": "log"}}, "objective": {}}


def run_choose(root: Path, data: Path, anchors: tuple[Path, Path], numbers: list[int]) -> dict[str, Any]:
    """`anchors`: the records of `original` and `retrained`."""
    trials = [root / f"trial{number}.json" for number in numbers]
    inputs = {"manifest": data / "manifest.json", "trials": trials}
    inputs |= {method: [records] for method, records in zip(("original", "retrained"), anchors, strict=True)}
    settings = {"seeds": [0], "select": SELECT, "forget_draw": None, "ranges": RANGES}
    choose.run(job(root, inputs, {"chosen": "chosen.json"}, **settings))
    return read_json(root / "chosen.json")


def test_the_choice_holds_all_that_it_was_made_from(original, data, anchors, tmp_path):
    run_trial(tmp_path, data, original, rate=1e-5, number=1)
    run_trial(tmp_path, data, original, rate=1e-4, number=2)
    run_trial(tmp_path, data, original, rate=1e30, number=3)
    chosen = run_choose(tmp_path, data, anchors, [3, 1, 2])
    assert (chosen["status"], chosen["bound_met"], chosen["diverged"]) == ("ok", True, 1)
    assert chosen["optimizer"] == {"learning_rate": 1e-4} and chosen["objective"] == {}
    assert chosen["budget"] == {"trials": 3, "rounds": 1, "seeds": [0]}
    assert chosen["ranges"] == RANGES and chosen["select"] == SELECT
    first, second, lost = chosen["trials"]
    assert [one["trial"] for one in chosen["trials"]] == [1, 2, 3] and chosen["trial"] == 2
    assert chosen["forget"] == second["runs"][0]["gap"] < first["runs"][0]["gap"]
    assert first["optimizer"] == {"learning_rate": 1e-5}
    assert lost["runs"][0]["diverged_step"] in (1, 2)


def test_the_edge_is_that_of_the_trials(original, data, anchors, tmp_path):
    for number, rate in enumerate((1e-5, 1e-4), start=1):
        run_trial(tmp_path, data, original, rate=rate, number=number)
    chosen = run_choose(tmp_path, data, anchors, [1, 2])
    assert chosen["at_edge"] == {"optimizer": {"learning_rate": "highest"}, "objective": {}}


def test_trials_of_two_precisions_are_not_compared(original, data, anchors, tmp_path):
    for number in (1, 2):
        run_trial(tmp_path, data, original, number=number)
    file = tmp_path / "trial2.json"
    made = read_json(file)
    made["settings"]["training"]["compute"] = "bf16"
    write_json(file, made)
    with pytest.raises(UserError, match=r"made different things: 1 in fp32, 1 in bf16\. Write fp32 or bf16"):
        run_choose(tmp_path, data, anchors, [1, 2])


def test_the_run_takes_the_chosen_settings_and_says_so(original, data, anchors, tmp_path):
    run_trial(tmp_path, data, original, rate=1e-3)
    chosen = run_choose(tmp_path, data, anchors, [1])
    run = run_chosen(tmp_path, data, original, learning_rate=1.0)
    assert run["optimizer_settings"]["learning_rate"] == 1e-3
    assert run["optimizer_settings"]["beta1"] == OPTIMIZERS["adamw"]["beta1"]
    assert run["tuned"] == {key: value for key, value in chosen.items() if key != "trials"}
    by_hand = run_unlearn(tmp_path / "b", data, original, "GradDiff", "adamw", rate=1e-3)
    assert read_json(by_hand / "run.json")["tuned"] is None
    same = [load_model_folder(folder)[0].state_dict() for folder in (tmp_path / "model", by_hand)]
    assert all(torch.equal(same[0][name], same[1][name]) for name in same[0])


def test_if_every_trial_diverged_the_run_says_diverged(original, data, anchors, tmp_path):
    for number, rate in enumerate((1e29, 1e30), start=1):
        run_trial(tmp_path, data, original, rate=rate, number=number)
    chosen = run_choose(tmp_path, data, anchors, [1, 2])
    assert (chosen["trial"], chosen["status"], chosen["bound_met"]) == (1, "every trial diverged", False)
    run = run_chosen(tmp_path, data, original)
    assert run["status"] == "diverged" and run["tuned"]["status"] == "every trial diverged"
