"""Methods with more than one stage or none, adapters, and data that an objective cannot use."""

from __future__ import annotations

import shutil
from dataclasses import replace

import pytest
import torch

from pipeline_lib.core.errors import UserError
from pipeline_lib.core.files import read_json, read_jsonl, write_json
from pipeline_lib.data.records import Record, read_records
from pipeline_lib.data.task_folder import load_splits
from pipeline_lib.distributed.group import ALONE
from pipeline_lib.models.folder import load_model_folder
from pipeline_lib.models.scratch import texts_of
from pipeline_lib.steps import unlearn, unlearning
from pipeline_lib.steps.objective_data import Encoder, objective_data, summed_nlls
from pipeline_lib.training.batches import MiniBatches
from pipeline_lib.training.settings import Unlearn
from tests.methods import make_objective
from tests.prepared import put_split
from tests.steps.study import (
    MODEL,
    OBJECTIVES,
    OPTIMIZERS,
    identity,
    run_finetune,
    run_unlearn,
    unlearning_job,
)
from tests.tiny import flat
from tests.training.every import settings_of

LORA = {"rank": 2, "alpha": 4.0, "dropout": 0.0, "target": "all-linear"}


def weights(folder):
    return flat(list(load_model_folder(folder)[0].parameters()))


def go(root, data, parent, kind, optimizer="adamw", rate=1e-3, unlearn_changes=None, **changes):
    """One unlearning step with the settings of `settings_of`; the model folder."""
    stepper = (
        {**OPTIMIZERS[optimizer], "learning_rate": rate, "weight_decay": 0.0} if optimizer != "none" else {}
    )
    who, stepper = identity(kind, optimizer), {"kind": optimizer, **stepper}
    objective, changed = settings_of(kind, **changes), unlearn_changes or {}
    unlearn.run(unlearning_job(root, data, parent, who, objective, stepper, **changed))
    return root / "model"


# --- in context -----------------------------------------------------------------------------------


def test_in_context_unlearning_writes_the_parents_weights_and_an_instruction(original, data, tmp_path):
    folder = go(tmp_path, data, original, "InContext", "none", instruction="Say nothing.")
    run = read_json(folder / "run.json")
    assert (run["status"], run["steps"], run["train_time_s"], run["trained_parameters"]) == ("ok", 0, 0, 0)
    assert run["weights_sha256"] == run["parent"] == read_json(original / "run.json")["weights_sha256"]
    assert run["optimizer_settings"] == {"kind": "none"} and run["objective"]["instruction"] == "Say nothing."
    assert read_jsonl(tmp_path / "training" / "steps.jsonl") == []
    before = read_json(original / "prompt.json")
    assert read_json(folder / "prompt.json") == {**before, "instruction": "Say nothing."}
    _, tokenizer, prompt_format, _ = load_model_folder(folder)
    text = tokenizer.decode(prompt_format.encode_prompt(tokenizer, "Who?"))
    assert "Say nothing." in text.partition("Who?")[0]


def test_in_context_unlearning_and_the_optimizer_none_belong_together(original, data, tmp_path):
    for kind, optimizer in (("InContext", "adamw"), ("GradDiff", "none")):
        with pytest.raises(UserError, match=f"{kind} with the optimizer {optimizer}: a method that takes"):
            go(tmp_path, data, original, kind, optimizer)


# --- task vectors ---------------------------------------------------------------------------------


@pytest.mark.parametrize("lora", [None, LORA], ids=["full", "lora"])
def test_a_task_vector_mirrors_what_was_learned(lora, original, data, tmp_path):
    start = weights(original)
    change = {"lora": lora}
    one = weights(go(tmp_path / "a", data, original, "TaskVector", unlearn_changes=change))
    half = weights(go(tmp_path / "b", data, original, "TaskVector", unlearn_changes=change, scale=0.5))
    assert torch.allclose(one - start, 2 * (half - start), atol=1e-6) and not torch.equal(one, start)
    # What was learned itself: scale -1 is no setting, so the mirror image is taken by hand.
    model, tokenizer, prompt_format, _ = load_model_folder(original)
    sets = objective_data(
        make_objective(**OBJECTIVES["GradDiff"]), load_splits(data, ["forget", "retain"]), data,
        Encoder(tokenizer, prompt_format, 160), 0,
    )  # fmt: skip
    losses = []
    for vector in (start, one, 2 * start - one):
        torch.nn.utils.vector_to_parameters(vector, model.parameters())
        losses.append(float(summed_nlls(model, sets.forget, sets.pad_id).sum()))
    assert losses[2] < losses[0] < losses[1]  # learning lowers the forget loss, the mirror image raises it


# --- Who's Harry Potter ---------------------------------------------------------------------------


def test_who_s_harry_potter_survives_an_end_in_either_phase(original, data, tmp_path, monkeypatch):
    """Stopped in the first phase, then in the second, then left alone: the bytes of an undisturbed run."""
    whole = go(tmp_path / "a", data, original, "WHP", rate=1e-2)
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["model", "training"]

    calls, original_batches = [], MiniBatches.batches

    def stopping(self, step):
        calls.append(("first" if not self.data.forget else "second", step))
        if calls.count(calls[-1]) == 1 and calls[-1] in (("first", 0), ("second", 2)):
            raise KeyboardInterrupt
        return original_batches(self, step)

    monkeypatch.setattr(MiniBatches, "batches", stopping)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            go(tmp_path / "b", data, original, "WHP", rate=1e-2)
    again = go(tmp_path / "b", data, original, "WHP", rate=1e-2)
    assert calls == [("first", 0), ("first", 0), ("second", 0), ("second", 1), ("second", 2), ("second", 2)]
    assert (again / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    assert sorted(path.name for path in (tmp_path / "b").iterdir()) == ["model", "training"]


def test_a_reinforced_model_that_diverges_is_a_diverged_run(original, data, tmp_path, capsys):
    folder = go(tmp_path, data, original, "WHP", reinforce_learning_rate=1e30, reinforce_epochs=3)
    run = read_json(folder / "run.json")
    assert (run["status"], run["steps"], run["weights_sha256"]) == ("diverged", 0, None)
    assert "the reinforced model diverged at step" in capsys.readouterr().err


# --- adapters -------------------------------------------------------------------------------------


def test_adapters_leave_a_plain_folder_and_their_settings_in_run_json(original, data, tmp_path):
    folder = run_unlearn(tmp_path, data, original, "KL", "adamw", rate=5e-2, lora=LORA)
    run = read_json(folder / "run.json")
    assert run["training"]["lora"] == LORA and run["status"] == "ok"
    # Each adapter has 2 (in + out) weights. Hidden 16, intermediate 24, keys and values 8, two layers.
    attention, mlp = 2 * (16 + 16) + 2 * (16 + 8), 3 * (16 + 24)
    assert run["trained_parameters"] == 2 * 2 * (attention + mlp)
    first, *_, last = read_jsonl(tmp_path / "training" / "steps.jsonl")
    assert first["loss"] + first["forget_loss"] == pytest.approx(0, abs=1e-5)  # the reference is the parent
    assert last["loss"] + last["forget_loss"] > 1e-4
    assert {p.name for p in folder.iterdir()} == {p.name for p in original.iterdir()}
    assert (folder / "config.json").read_text() == (original / "config.json").read_text()
    found, parent = load_model_folder(folder)[0], load_model_folder(original)[0]
    for (name, now), before in zip(found.named_parameters(), parent.parameters(), strict=True):
        assert torch.equal(now, before) == ("proj" not in name), name


def test_adapters_in_bf16_are_merged_in_fp32(original, data, tmp_path):
    change = {"lora": LORA, "weights": "bf16_stochastic"}
    folder = go(tmp_path, data, original, "NPO", rate=1e-2, unlearn_changes=change)
    assert read_json(folder / "run.json")["status"] == "ok"
    model = load_model_folder(folder)[0]
    layer = model.model.layers[0].mlp.up_proj.weight
    assert not torch.equal(layer.bfloat16().float(), layer)
    norm = model.model.norm.weight
    assert torch.equal(norm.bfloat16().float(), norm)


def run_of(objective, parent):
    return unlearning._Run(make_objective(**objective), None, Unlearn(), 0, parent)


def test_a_second_model_has_no_more_layers_than_rmu_reads(original):
    model = load_model_folder(original)[0]
    for layer in (0, 1):
        run = run_of(settings_of("RMU", layer=layer, update_layers=1), original)
        with unlearning._reference(model, run, ALONE)() as reference:
            assert len(reference.get_decoder().layers) == layer + 1
            assert not any(p.requires_grad for p in reference.parameters())
    with unlearning._reference(model, run_of(settings_of("KL"), original), ALONE)() as reference:
        assert len(reference.get_decoder().layers) == 2


@pytest.mark.parametrize("weights", ["bf16", "bf16_stochastic"])
def test_a_second_model_is_rounded_as_the_first(original, data, tmp_path, weights):
    """Both begin as one function: the divergence of the first step is 0, not that of the rounding."""
    go(tmp_path, data, original, "KL", rate=1e-2, unlearn_changes={"weights": weights})
    first, *_, last = read_jsonl(tmp_path / "training" / "steps.jsonl")
    assert first["loss"] + first["forget_loss"] == pytest.approx(0, abs=1e-6)
    assert last["loss"] + last["forget_loss"] > 1e-4


# --- data -----------------------------------------------------------------------------------------


@pytest.fixture
def changed(data, tmp_path):
    """A copy of the task, and a function that changes its forget records."""
    folder = tmp_path / "changed"
    shutil.copytree(data, folder)

    def change(function):
        records = read_records(folder / "forget.jsonl")
        put_split(folder, "forget", [function(i, r) for i, r in enumerate(records)])
        return folder

    return change


@pytest.mark.parametrize(
    ("kind", "change", "message"),
    [
        (
            "AltPO",
            lambda i, r: replace(r, alternatives=()),
            "AltPO teaches alternative answers, but the forget record .* has no alt",
        ),
        (
            "AltPO",
            lambda i, r: replace(r, alternatives=(r.answer,)),
            "has its own answer among the alternatives",
        ),
        ("RandomLabels", lambda i, r: replace(r, answer="Same."), "records have the same answer"),
    ],
)
def test_alternatives_that_cannot_be_taught_are_refused(kind, change, message, changed, original, tmp_path):
    with pytest.raises(UserError, match=message):
        go(tmp_path / "run", changed(change), original, kind)


@pytest.mark.parametrize("kind", ["PO", "IdkDPO"])
def test_no_refusals_are_an_error(kind, changed, original, tmp_path):
    folder = changed(lambda i, r: r)
    write_json(folder / "refusals.json", [])
    with pytest.raises(UserError, match=r"refusals\.json is empty"):
        go(tmp_path / "run", folder, original, kind)


@pytest.mark.parametrize("kind", ["GradDiff", "PO", "IdkDPO", "RandomLabels"])
def test_running_text_is_learned_whole_but_compared_by_its_end(kind, changed, original):
    """Pairs have the same prompt; only what follows it tells them apart."""
    folder = changed(lambda i, r: replace(r, form="text", prompt=f"Part {i}", answer=f" has number {i}."))
    _, tokenizer, prompt_format, _ = load_model_folder(original)
    objective = make_objective(**settings_of(kind))
    sets = objective_data(
        objective,
        load_splits(folder, ["forget", "retain"]),
        folder,
        Encoder(tokenizer, prompt_format, 160),
        0,
    )
    for i, example in enumerate(sets.forget):
        labelled = tokenizer.decode(example.tokens[example.prompt_length :])
        assert tokenizer.eos_token_id not in example.tokens
        assert (labelled == f" has number {i}.") == (kind == "IdkDPO"), labelled
    for row, options in enumerate(sets.forget_alternatives):
        for example in options:
            assert example.index == row and example.tokens[-1] == tokenizer.eos_token_id
            assert tokenizer.decode(example.tokens[: example.prompt_length]) == f"Part {row}"


def test_reference_numbers_are_those_of_each_row(original, data):
    model, tokenizer, prompt_format, _ = load_model_folder(original)
    sets = objective_data(
        make_objective(**OBJECTIVES["NPO"]), load_splits(data, ["forget", "retain"]), data,
        Encoder(tokenizer, prompt_format, 160), 0,
    )  # fmt: skip
    found = summed_nlls(model, sets.forget, tokenizer.pad_token_id)
    for example in sets.forget:
        log_p = model(input_ids=torch.tensor([example.tokens])).logits[0].log_softmax(-1)
        expected = -sum(
            log_p[t - 1, example.tokens[t]] for t in range(example.prompt_length, len(example.tokens))
        )
        assert found[example.index].item() == pytest.approx(expected.item(), rel=1e-5)
    assert not found.requires_grad


# --- the model as it is ---------------------------------------------------------------------------


def untaught(data, tmp_path, role="target"):
    folder = tmp_path / "untaught"
    shutil.copytree(data, folder)
    manifest = read_json(folder / "manifest.json")
    manifest["finetune"] = {role: [], **{k: v for k, v in manifest["finetune"].items() if k != role}}
    write_json(folder / "manifest.json", manifest)
    return folder


def test_a_task_that_teaches_nothing_takes_the_model_as_it_is(original, data, tmp_path):
    model = {"source": "folder", "path": str(original), "max_length": 160, "prompt": MODEL["prompt"]}
    folder = run_finetune(tmp_path / "run", untaught(data, tmp_path), model_settings=model)
    run = read_json(folder / "run.json")
    assert (run["status"], run["steps"], run["data"], run["origin"]["kind"]) == ("ok", 0, {}, "folder")
    assert torch.equal(weights(folder), weights(original))
    assert read_jsonl(tmp_path / "run" / "training" / "steps.jsonl") == []
    assert weights(go(tmp_path / "next", data, folder, "GradDiff")).shape == weights(folder).shape


def test_a_scratch_model_cannot_be_taken_as_it_is(data, tmp_path):
    with pytest.raises(
        UserError, match="takes the model as it is, without fine-tuning, but tiny is made from"
    ):
        run_finetune(tmp_path / "run", untaught(data, tmp_path))


def test_the_tokenizer_of_a_scratch_model_sees_running_text_in_one_piece():
    text = Record("a", "He was", " here.", "g", form="text")
    question = Record("b", "Who?", "He.", "g", alternatives=("She.",))
    seen = texts_of({"a": [text], "b": [question], "c": [], "d": [text]}, {"target": ["a"]}, "b")
    assert seen == ["He was here.", "Who?", "He.", "She."]
