"""What the fine-tuning and the unlearning step write, and where they stop."""

from __future__ import annotations

import pytest
import torch

from pipeline_lib.core.errors import UserError
from pipeline_lib.core.files import read_json, read_jsonl, write_json
from pipeline_lib.data.task_folder import load_splits
from pipeline_lib.models.folder import load_model_folder, weights_sha256
from pipeline_lib.steps import finetune
from pipeline_lib.steps.common import fingerprint, start
from tests.steps.study import OBJECTIVES, OPTIMIZERS, run_finetune, run_unlearn
from tests.tiny import flat


def weights(folder):
    return flat(list(load_model_folder(folder)[0].parameters()))


# --- fine-tuning ----------------------------------------------------------------------------------


def test_the_tokenizer_of_a_scratch_model_sees_members_and_non_members(data, tmp_path, monkeypatch):
    """Else a model that learned neither would find the non-members' names less likely: more tokens."""
    seen = []

    def stop(settings, texts, seed):
        seen.extend(texts)
        raise UserError("enough")

    monkeypatch.setattr(finetune, "build_scratch", stop)
    with pytest.raises(UserError, match="enough"):
        run_finetune(tmp_path, data, method="retrained")
    for split, records in load_splits(data, ["forget", "retain", "facts", "holdout"]).items():
        assert {record.answer for record in records} <= set(seen), split


def test_finetune_writes_model_log_and_facts(original, data):
    run = read_json(original / "run.json")
    hashes = {name: split["sha256"] for name, split in read_json(data / "manifest.json")["splits"].items()}
    assert (run["status"], run["diverged_step"], run["parent"]) == ("ok", None, None)
    assert (run["method"], run["optimizer"], run["seed"], run["suite"]) == ("original", "none", 0, "test")
    assert hashes.pop("holdout")  # no model learns it
    assert run["data"] == hashes  # all the others
    assert run["weights_sha256"] == weights_sha256(original)
    assert run["steps"] == 9 and run["device"] == "cpu" and run["threads"] == 1  # 11 records, 4 a step
    assert run["train_time_s"] <= run["wall_time_s"] and run["peak_memory_mb"] > 0
    assert run["optimizer_settings"]["kind"] == "adamw" and run["training"]["epochs"] == 3
    training = original.parent / "training"
    assert read_json(training / "run.json") == run
    assert [row["step"] for row in read_jsonl(training / "steps.jsonl")] == list(range(1, 10))
    assert not (original.parent / "checkpoint").exists()
    names = {path.name for path in original.iterdir()}
    assert {"model.safetensors", "config.json", "tokenizer.json", "prompt.json", "run.json"} <= names


def test_the_retrained_model_never_sees_the_forget_set(original, data, tmp_path):
    retrained = run_finetune(tmp_path, data, "retrained")
    run = read_json(retrained / "run.json")
    assert set(run["data"]) == {"retain", "facts"}
    assert run["steps"] == 6  # 7 records, 4 a step
    assert (retrained / "tokenizer.json").read_bytes() == (original / "tokenizer.json").read_bytes()


def test_fine_tuning_that_diverges_is_an_error(data, tmp_path):
    with pytest.raises(UserError, match=r"diverged at step \d+: lower finetune.learning_rate"):
        run_finetune(tmp_path, data, learning_rate=1e30)
    assert not (tmp_path / "model").exists()


# --- unlearning -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "method, optimizer",
    [
        *((method, "adamw") for method in OBJECTIVES),
        *(("GradDiff", kind) for kind in OPTIMIZERS if kind != "influence"),
    ],
)
def test_every_objective_and_optimizer_goes_through(method, optimizer, original, data, tmp_path):
    folder = run_unlearn(tmp_path, data, original, method, optimizer)
    run = read_json(folder / "run.json")
    assert run["status"] == "ok" and run["steps"] == 3
    assert run["parent"] == weights_sha256(original) != run["weights_sha256"]
    assert run["objective"] == OBJECTIVES[method]
    assert run["optimizer_settings"].items() >= OPTIMIZERS[optimizer].items()
    log = read_jsonl(tmp_path / "training" / "steps.jsonl")
    assert len(log) == 3
    assert all((row["clipped_share"] is not None) == ("sophia" in optimizer) for row in log)
    assert not (tmp_path / "checkpoint").exists()
    assert float((weights(folder) - weights(original)).abs().max()) < 0.02  # 3 steps of 1e-3, not more
    assert (folder / "tokenizer.json").read_bytes() == (original / "tokenizer.json").read_bytes()


@pytest.mark.parametrize("method", OBJECTIVES)
def test_influence_is_one_step(method, original, data, tmp_path):
    folder = run_unlearn(tmp_path, data, original, method, "influence", rate=0.1)
    run = read_json(folder / "run.json")
    assert run["status"] == "ok" and run["steps"] == 1
    (row,) = read_jsonl(tmp_path / "training" / "steps.jsonl")
    assert row["solver_converged"] and row["solver_residual"] <= 0.01
    moved = float((weights(folder) - weights(original)).norm())
    assert moved == pytest.approx(row["update_norm"], rel=1e-4) and (moved > 0 or method == "KL")


@pytest.mark.parametrize("precision", ["bf16", "bf16_stochastic"])
@pytest.mark.parametrize("optimizer", ["adamw", "sophia"])
def test_half_precision_weights_are_bf16_numbers(precision, optimizer, original, data, tmp_path):
    folder = run_unlearn(tmp_path, data, original, "NPO", optimizer, weights=precision)
    found = weights(folder)
    assert torch.equal(found.bfloat16().float(), found)
    assert not torch.equal(found, weights(original).bfloat16().float())
    assert read_json(folder / "run.json")["training"]["weights"] == precision


def test_npo_begins_at_two_over_beta_log_two(original, data, tmp_path):
    """At step 1 the model still is the reference; later it is not."""
    run_unlearn(tmp_path, data, original, "NPO", "adamw")
    first, second, _ = read_jsonl(tmp_path / "training" / "steps.jsonl")
    assert first["loss"] - first["retain_loss"] == pytest.approx(20 * 0.6931471805599453, rel=1e-4)
    assert second["loss"] - second["retain_loss"] < 0.99 * 20 * 0.6931471805599453


def test_kl_begins_at_zero_divergence(original, data, tmp_path):
    run_unlearn(tmp_path, data, original, "KL", "adamw")
    first, *_, last = read_jsonl(tmp_path / "training" / "steps.jsonl")
    assert first["loss"] + first["forget_loss"] == pytest.approx(0, abs=1e-5)
    assert last["loss"] + last["forget_loss"] > 1e-4


def test_a_run_that_diverges_is_recorded_and_does_not_raise(original, data, tmp_path):
    folder = run_unlearn(tmp_path, data, original, "GradDiff", "adamw", rate=1e30)
    run = read_json(folder / "run.json")
    assert run["status"] == "diverged" and run["diverged_step"] in (1, 2) and run["weights_sha256"] is None
    assert [path.name for path in folder.iterdir()] == ["run.json"]
    assert len(read_jsonl(tmp_path / "training" / "steps.jsonl")) == run["steps"]
    with pytest.raises(UserError, match="diverged at step"):
        run_unlearn(tmp_path / "next", data, folder, "GradDiff", "adamw")


# --- shared ---------------------------------------------------------------------------------------


def test_cuda_where_there_is_none_is_an_error(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match=r"resources\.device is cuda.*use auto or cpu"):
        start("cuda", 1)
    assert start("auto", 1) == start("cpu", 1) == torch.device("cpu")


def test_fingerprints_differ_where_settings_do(tmp_path):
    assert fingerprint({"a": 1, "b": [2.5, None]}) == fingerprint({"b": [2.5, None], "a": 1})
    assert len({fingerprint(v) for v in (1, "1", 1.5, [1], {"a": 1}, {"a": 2}, None)}) == 7
    assert fingerprint(1, 2) != fingerprint([1, 2]) != fingerprint(12)
    write_json(tmp_path / "a.json", {"rate": 1e-05})  # a value survives its file
    assert fingerprint(read_json(tmp_path / "a.json")) == fingerprint({"rate": 1e-5})
