"""`compute: auto` is resolved when a job starts: run.json, log and checkpoint know what it became alone."""

from __future__ import annotations

import pytest
import torch

from pipeline_lib.core.files import read_json, read_jsonl
from pipeline_lib.core.stopping import Stopped
from pipeline_lib.steps import trial
from pipeline_lib.training import compute, loop
from pipeline_lib.training.compute import with_compute
from pipeline_lib.training.settings import Unlearn
from tests.steps.study import OBJECTIVES, OPTIMIZERS, TRAINING, identity, job, run_finetune, run_unlearn

CPUS = {"fp32": "flags\t: avx2\n", "bf16": "flags\t: avx2 amx_bf16\n"}
SAID = "compute: auto looked for"


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Makes this machine one whose `auto` is what is given."""
    monkeypatch.setattr(compute, "CPU_FACTS", tmp_path / "cpuinfo")
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: True)
    return lambda kind: (tmp_path / "cpuinfo").write_text(CPUS[kind])


def same_run(one, other):
    """Same weights, and the same of how they were made."""
    assert (one / "model.safetensors").read_bytes() == (other / "model.safetensors").read_bytes()
    assert read_json(one / "run.json")["training"] == read_json(other / "run.json")["training"]


@pytest.mark.parametrize("kind", ["fp32", "bf16"])
def test_auto_is_the_run_of_what_it_becomes(kind, machine, original, data, tmp_path, capfd):
    machine(kind)
    tuned = run_finetune(tmp_path / "tuned", data, compute="auto")
    forgot = run_unlearn(tmp_path / "forgot", data, original, "NPO", "sophia", compute="auto")
    for folder in (tuned, forgot):
        run = read_json(folder / "run.json")
        assert run["training"]["compute"] == run["auto"] == kind
    told = [line for line in capfd.readouterr().err.splitlines() if line.startswith(SAID)]
    assert len(told) == 2 and all(line.endswith(f"products are in {kind}") for line in told)
    same_run(tuned, run_finetune(tmp_path / "b", data, compute=kind))
    same_run(forgot, run_unlearn(tmp_path / "c", data, original, "NPO", "sophia", compute=kind))
    assert read_json(tmp_path / "c" / "model" / "run.json")["auto"] is None, "chosen by the suite"
    assert SAID not in capfd.readouterr().err


def test_a_trial_says_what_it_was_computed_in(machine, original, data, tmp_path):
    machine("bf16")
    given = {"unlearn": {**TRAINING, "weights": "fp32", "lora": None, "compute": "auto"}}
    given["optimizer"] = {**OPTIMIZERS["adamw"], "learning_rate": 1e-3, "weight_decay": 0.1}
    given["evaluation"] = {"max_records": {"retain": 3}, "max_tokens_per_batch": 512}
    given |= {"objective": OBJECTIVES["GradDiff"], "tuned": {}, "max_length": 160}
    inputs = {"manifest": data / "manifest.json", "parent": original, "reference": None}
    who = {**identity("GradDiff", "adamw"), "trial": 1}
    trial.run(job(tmp_path, inputs, {"trial": "trial.json"}, who, **given))
    assert read_json(tmp_path / "trial.json")["settings"]["training"]["compute"] == "bf16"


@pytest.mark.parametrize(("first", "then"), [("bf16", "fp32"), ("bf16", "bf16")])
def test_a_checkpoint_is_continued_in_its_own_precision_alone(
    first, then, machine, original, data, tmp_path, monkeypatch, capfd
):
    def run(folder):
        return run_unlearn(tmp_path / folder, data, original, "NPO", "adamw", compute="auto", epochs=6)

    machine(first)
    with monkeypatch.context() as patch:
        take, taken = loop._step, []

        def step(*given):
            taken.append(given[-1])
            if len(taken) == 4:
                raise Stopped("in the fourth step")
            return take(*given)

        patch.setattr(loop, "_step", step)
        with pytest.raises(Stopped):
            run("stopped")
    assert read_json(tmp_path / "stopped" / "checkpoint" / "state.json")["step"] == 3
    capfd.readouterr()
    machine(then)
    again = run("stopped")
    assert ("checkpoint of other settings, starting over" in capfd.readouterr().err) == (first != then)
    same_run(again, run("undisturbed"))
    assert len(read_jsonl(tmp_path / "stopped" / "training" / "steps.jsonl")) == 6


def test_processes_compute_as_the_first_one_does(machine, capfd):
    class Second:
        writes = False

        def of_first(self, flag):
            assert flag
            return False

    machine("bf16")
    found = with_compute(Unlearn(compute="auto"), torch.device("cpu"), Second())
    assert found.compute == "fp32" and capfd.readouterr().err == ""
