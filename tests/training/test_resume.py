"""A stopped run that is continued ends with the same bits; a checkpoint that does not fit is not used."""

from __future__ import annotations

import json

import pytest
import torch

from pipeline_lib.distributed.group import ALONE, Group
from pipeline_lib.optimizers import OPTIMIZERS
from pipeline_lib.training import checkpoint
from pipeline_lib.training.batches import MiniBatches
from pipeline_lib.training.checkpoint import Kept, Progress
from pipeline_lib.training.loop import train
from pipeline_lib.training.updates import gradient_update
from tests.methods import make_objective, make_optimizer
from tests.optimizers.kinds import CONTROLS, SOPHIAS
from tests.tiny import flat, tiny_model
from tests.training.every import data_for, freeze, objective_of
from tests.training.runs import (
    OPTIMIZER_SETTINGS,
    Stopped,
    data,
    optimizer_of,
    run,
    settings,
    stop_before,
    timeless,
)


def fresh(kind):
    """A model with dropout in its attention, so that the random state matters too."""
    model = tiny_model(attention_dropout=0.2)
    return model, optimizer_of(kind, model)


def assert_same_run(one, other):
    """Each is (model, optimizer, outcome): bits of weights and states, and the log without times."""
    assert torch.equal(flat(list(one[0].parameters())), flat(list(other[0].parameters())))
    left, right = one[1].state_dict(), other[1].state_dict()
    assert left["param_groups"] == right["param_groups"]
    assert left["state"].keys() == right["state"].keys()
    for index, state in left["state"].items():
        assert state.keys() == right["state"][index].keys()
        for key, value in state.items():
            assert torch.equal(torch.as_tensor(value), torch.as_tensor(right["state"][index][key])), key
    assert timeless(one[2].log) == timeless(other[2].log)
    assert (one[2].status, one[2].steps) == (other[2].status, other[2].steps)


@pytest.mark.parametrize("stop", [1, 3, 5])
@pytest.mark.parametrize("kind", OPTIMIZER_SETTINGS)
def test_stopped_and_continued_equals_undisturbed(kind, stop, tmp_path, monkeypatch):
    options = {"warmup": 0.3, "decay": "cosine", "checkpoint_seconds": 0}
    whole = fresh(kind)
    undisturbed = (*whole, run(whole[0], tmp_path / "a", kind, optimizer=whole[1], **options))

    with monkeypatch.context() as patch:
        stop_before(stop, patch)
        model, optimizer = fresh(kind)
        with pytest.raises(Stopped):
            run(model, tmp_path / "b", kind, optimizer=optimizer, **options)
    assert json.loads((tmp_path / "b" / "state.json").read_text())["step"] == stop

    model, optimizer = fresh(kind)
    with monkeypatch.context() as patch:
        steps, original = [], MiniBatches.batches
        patch.setattr(MiniBatches, "batches", lambda *args: steps.append(args[1]) or original(*args))
        outcome = run(model, tmp_path / "b", kind, optimizer=optimizer, **options)
    assert steps == list(range(stop, 6))  # nothing is done twice
    assert_same_run((model, optimizer, outcome), undisturbed)
    times = [row["elapsed_s"] for row in outcome.log]
    assert times == sorted(times)


@pytest.mark.parametrize("rounding", [False, True])
def test_adaptive_settings_and_bf16_weights_are_continued(rounding, tmp_path, monkeypatch):
    """gamma adapts itself; with stochastic rounding weights are bf16 and states fp32."""
    found = []
    for folder, stop in (("a", None), ("b", 3), ("b", None)):
        model = tiny_model(dtype=torch.bfloat16 if rounding else torch.float32)
        constants = OPTIMIZER_SETTINGS["sophia"] | {"gamma": "auto", "clipped_target": 0.4}
        optimizer = make_optimizer(
            "sophia",
            model,
            learning_rate=1e-3,
            weight_decay=0.1,
            stochastic_rounding=rounding,
            **constants,
        )
        with monkeypatch.context() as patch:
            if stop:
                stop_before(stop, patch)
                with pytest.raises(Stopped):
                    run(model, tmp_path / folder, "sophia", optimizer=optimizer, checkpoint_seconds=0)
                continue
            outcome = run(model, tmp_path / folder, "sophia", optimizer=optimizer, checkpoint_seconds=0)
        found.append((model, optimizer, outcome))
    gammas = [row["gamma"] for row in found[0][2].log]
    assert len(set(gammas)) == len(gammas) == 6
    assert_same_run(found[1], found[0])


@pytest.mark.parametrize("kind", SOPHIAS)
@pytest.mark.parametrize("control", [None, *CONTROLS])
def test_controls_are_continued_and_diagnostics_change_no_bit(kind, control, tmp_path, monkeypatch):
    """By the plain update of the library, with the curvature that the settings ask for."""
    given = {"kind": kind, "learning_rate": 1e-2, "weight_decay": 0.1, "control": control}
    given |= {"update_every": 2, "beta2": 0.9} if kind == "sophia" else {}

    def go(folder, diagnostics):
        model = tiny_model(attention_dropout=0.2)
        method = OPTIMIZERS.parse({**given, "diagnostics": diagnostics})
        update = gradient_update(method, model, 1.0, ALONE)
        course = MiniBatches(data(), settings(checkpoint_seconds=0), 3)
        objective = make_objective("GradDiff", gamma=1.0)
        outcome = train(model, objective, update, course, Kept(tmp_path / folder, "here"))
        return model, update.optimizer, outcome

    whole = go("whole", True)
    with monkeypatch.context() as patch, pytest.raises(Stopped):
        stop_before(3, patch)
        go("stopped", True)
    assert_same_run(go("stopped", True), whole)
    plain = go("plain", False)
    assert torch.equal(flat(list(plain[0].parameters())), flat(list(whole[0].parameters())))
    watched = ("cosine_signum", "cosine_adamw")
    assert all(0 < row[name] <= 1 for row in whole[2].log for name in watched)
    assert [{**row, **dict.fromkeys(watched)} for row in timeless(whole[2].log)] == timeless(plain[2].log)


@pytest.mark.parametrize("kind", ["PDU", "DPO", "IdkDPO", "RMU", "WHP"])
def test_objectives_with_a_state_pairs_or_labels_are_continued(kind, tmp_path, monkeypatch):
    """PDU's dual variable is in the checkpoint; draws and their numbers follow from seed and step."""
    found = []
    for folder, stop in (("a", None), ("b", 3), ("b", None)):
        model, objective = fresh("sophia")[0], objective_of(kind)
        freeze(objective, model)
        sets = data_for(objective, tiny_model(), data(), settings(checkpoint_seconds=0))
        optimizer = optimizer_of("sophia", model)
        options = {"optimizer": optimizer, "objective": objective, "training_data": sets}
        with monkeypatch.context() as patch:
            if stop:
                stop_before(stop, patch)
                with pytest.raises(Stopped):
                    run(model, tmp_path / folder, "sophia", checkpoint_seconds=0, **options)
                continue
            found.append((model, optimizer, run(model, tmp_path / folder, "sophia", **options)))
    assert_same_run(found[1], found[0])
    log = found[0][2].log
    assert ("objective_dual" in log[0]) == (kind == "PDU")
    if kind == "PDU":
        values = [row["objective_dual"] for row in log]
        assert values[0] == 2.0 and len(set(values)) > 3  # it starts to move after one step
        for before, row in zip(values, log[1:], strict=False):
            assert row["objective_dual"] == max(0.0, before + 0.5 * (row["retain_loss"] - 1.0))


def test_checkpoints_are_as_rare_as_asked(tmp_path, monkeypatch):
    saved = []
    monkeypatch.setattr(checkpoint, "save", lambda *given: saved.append(given[3].step))
    run(tiny_model(), tmp_path / "a", checkpoint_seconds=0)
    assert saved == [1, 2, 3, 4, 5]  # after the last step the model itself is written
    run(tiny_model(), tmp_path / "a", checkpoint_seconds=3600)
    assert saved == [1, 2, 3, 4, 5]


@pytest.fixture
def stopped(tmp_path, monkeypatch):
    """The checkpoint folder of a run that was stopped after 3 steps, and what the whole run gives."""
    whole = fresh("sophia")
    undisturbed = (*whole, run(whole[0], tmp_path / "whole", "sophia", optimizer=whole[1]))
    with monkeypatch.context() as patch:
        stop_before(3, patch)
        model, optimizer = fresh("sophia")
        with pytest.raises(Stopped):
            run(model, tmp_path / "c", "sophia", optimizer=optimizer, checkpoint_seconds=0)
    return tmp_path / "c", undisturbed


def cut_tensors(folder):
    file = folder / "tensors.safetensors"
    file.write_bytes(file.read_bytes()[:-100])


SPOILERS = {
    "cut tensors": cut_tensors,
    "no tensors": lambda folder: (folder / "tensors.safetensors").unlink(),
    "no state": lambda folder: (folder / "state.json").unlink(),
    "broken state": lambda folder: (folder / "state.json").write_text('{"step": 3, '),
    "state of another kind": lambda folder: (folder / "state.json").write_text("[1, 2]"),
    "state without a field": lambda folder: (folder / "state.json").write_text('{"step": 3}'),
}


@pytest.mark.parametrize("spoil", SPOILERS.values(), ids=SPOILERS)
def test_a_corrupt_checkpoint_is_said_and_not_used(spoil, stopped, capsys):
    folder, undisturbed = stopped
    spoil(folder)
    model, optimizer = fresh("sophia")
    outcome = run(model, folder, "sophia", optimizer=optimizer)
    assert_same_run((model, optimizer, outcome), undisturbed)
    message = capsys.readouterr().err
    assert f"{folder}: unreadable checkpoint" in message and "starting over" in message


def test_a_checkpoint_of_other_settings_is_said_and_not_used(stopped, capsys):
    folder, undisturbed = stopped
    model, optimizer = fresh("sophia")
    outcome = run(model, folder, "sophia", optimizer=optimizer, fingerprint="there")
    assert_same_run((model, optimizer, outcome), undisturbed)
    assert f"{folder}: checkpoint of other settings" in capsys.readouterr().err


def test_a_checkpoint_that_fits_is_used_in_silence(stopped, capsys):
    folder, undisturbed = stopped
    model, optimizer = fresh("sophia")
    outcome = run(model, folder, "sophia", optimizer=optimizer)
    assert_same_run((model, optimizer, outcome), undisturbed)
    assert "starting over" not in capsys.readouterr().err


def test_a_failure_while_saving_leaves_the_old_checkpoint(stopped, monkeypatch):
    folder, _ = stopped
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    model, optimizer = fresh("sophia")

    def full_disk(path, value):
        raise OSError("no space left")

    monkeypatch.setattr(checkpoint, "write_json", full_disk)
    with pytest.raises(OSError, match="no space"):
        checkpoint.save(Kept(folder, "here"), model, optimizer, Progress(9))
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert [path.name for path in folder.parent.iterdir() if ".partial" in path.name] == []


def test_a_checkpoint_holds_safetensors_and_json_only(stopped):
    folder, _ = stopped
    assert sorted(path.name for path in folder.iterdir()) == [
        "state.json",
        "sums.json",
        "tensors.safetensors",
    ]


def test_a_process_without_a_checkpoint_stands_at_step_0(stopped, tmp_path):
    """What processes compare before they continue: one may read a checkpoint that another does not see."""
    asked = []

    class Asking(Group):
        def check_same(self, value, what):
            asked.append(value)

    model, optimizer = fresh("sophia")
    for folder in (tmp_path / "none", stopped[0]):
        checkpoint.load(checkpoint.Kept(folder, "here"), model, optimizer, Asking())
    assert asked == [0, 3]
