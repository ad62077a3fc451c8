"""The labels of Who's Harry Potter: by hand, with and without adapters, and through a kill."""

from __future__ import annotations

import json

import pytest
import torch

from pipeline_lib.data.batching import collate
from pipeline_lib.models.forward import answer_logits
from pipeline_lib.objectives.finetuning import FineTuning
from pipeline_lib.training import generic_labels as module
from pipeline_lib.training.batches import MiniBatches
from pipeline_lib.training.checkpoint import Kept
from pipeline_lib.training.data import TrainingData
from pipeline_lib.training.generic_labels import generic_labels
from pipeline_lib.training.settings import LoRA
from tests.methods import make_objective
from tests.tiny import PAD, flat, random_examples, tiny_model
from tests.training.runs import data, run, settings

LORA = {"rank": 4, "alpha": 8.0, "dropout": 0.0, "target": "all-linear"}
FORGET = random_examples(6, 1)


def objective(alpha=5.0, rate=1e-2):
    return make_objective("WHP", alpha=alpha, reinforce_epochs=2, reinforce_learning_rate=rate)


@pytest.fixture(scope="module")
def knowing(tmp_path_factory):
    """Weights of a model that knows the forget set in part."""
    model = tiny_model()
    run(
        model,
        tmp_path_factory.mktemp("knowing") / "c",
        objective=FineTuning(),
        training_data=data(forget=0, retain=FORGET),
        epochs=4,
    )
    return model.state_dict()


def labels_of(folder, model=None, lora=None, whp=None, seed=3, mark="here"):
    model = model or tiny_model()
    cut = settings(checkpoint_seconds=0)
    sets, lora = TrainingData(forget=FORGET, retain=[], pad_id=PAD), lora and LoRA(**lora)
    return generic_labels(model, whp or objective(), sets, cut, lora, seed, Kept(folder, mark))


def test_logits_that_rose_are_held_down_and_no_others():
    """Three tokens: the first rises by 2, the second falls by 1, the third stays; alpha 1.5."""
    base, reinforced = torch.tensor([3.0, 1.0, 2.0]), torch.tensor([5.0, 0.0, 2.0])
    assert objective(alpha=1.5).generic_logits(base, reinforced).tolist() == [0.0, 1.0, 2.0]


@pytest.mark.parametrize("lora", [None, LORA], ids=["full", "lora"])
def test_labels_are_the_argmax_of_both_models(lora, knowing, tmp_path, monkeypatch):
    """Worked out again from the reinforced model, example by example."""
    model, plain, kept, original = tiny_model(), tiny_model(), {}, module._labels
    model.load_state_dict(knowing)
    plain.load_state_dict(knowing)

    def watched(base, reinforced, *rest):
        kept["logits"] = [answer_logits(reinforced, collate([e], PAD))[0].detach() for e in FORGET]
        kept["apart"] = reinforced is not base
        return original(base, reinforced, *rest)

    monkeypatch.setattr(module, "_labels", watched)
    labels, outcome = labels_of(tmp_path / "a", model, lora, objective(alpha=50.0))
    assert kept["apart"] == (lora is None)  # with adapters there is no second model
    assert (outcome.status, outcome.steps, outcome.log) == ("ok", 4, [])  # 6 rows, 4 a step, 2 epochs
    assert [name for name, _ in model.named_parameters()] == [name for name, _ in plain.named_parameters()]
    assert torch.equal(flat(list(model.parameters())), flat(list(plain.parameters())))
    known = forgotten = 0
    for example, found, strong in zip(FORGET, labels, kept["logits"], strict=True):
        base = answer_logits(plain, collate([example], PAD))[0]
        rose = (strong - base).clamp(min=0)
        assert found == (base - 50.0 * rose).argmax(-1).tolist()
        for label, own, true in zip(
            found, base.argmax(-1).tolist(), example.tokens[example.prompt_length :], strict=True
        ):
            known += own == true
            forgotten += own == true != label
    assert known > 10 and forgotten > known / 2  # what it knew is no longer the label


def test_no_reinforcement_gives_the_models_own_predictions(tmp_path):
    labels, _ = labels_of(tmp_path / "a", whp=objective(rate=1e-12))
    model = tiny_model()
    expected = [answer_logits(model, collate([e], PAD))[0].argmax(-1).tolist() for e in FORGET]
    assert labels == expected


class Stopped(Exception):
    pass


def test_a_killed_first_phase_goes_on_and_a_finished_one_is_not_repeated(tmp_path, monkeypatch):
    whole, _ = labels_of(tmp_path / "a")
    steps, original = [], MiniBatches.batches

    def watched(self, step):
        steps.append(step)
        if steps == [0, 1, 2]:
            raise Stopped
        return original(self, step)

    monkeypatch.setattr(MiniBatches, "batches", watched)
    with pytest.raises(Stopped):
        labels_of(tmp_path / "b")
    steps.append("killed")
    again, first = labels_of(tmp_path / "b")
    assert again == whole and steps == [0, 1, 2, "killed", 2, 3]
    third, second = labels_of(tmp_path / "b")
    assert third == whole and len(steps) == 6
    assert (second.steps, second.train_time_s) == (first.steps, first.train_time_s)
    labels_of(tmp_path / "b", mark="other settings")
    assert steps[6:] == [0, 1, 2, 3]


def test_damaged_labels_are_made_again(tmp_path):
    whole, _ = labels_of(tmp_path / "a")
    (tmp_path / "a" / "labels.json").write_text('{"labels": [[')
    assert labels_of(tmp_path / "a")[0] == whole
    assert json.loads((tmp_path / "a" / "labels.json").read_text())["labels"] == whole


@pytest.mark.parametrize("lora", [None, LORA], ids=["full", "lora"])
def test_a_reinforced_model_that_diverges_has_no_labels(lora, tmp_path):
    model = tiny_model()
    labels, outcome = labels_of(tmp_path / "a", model, lora, objective(rate=1e30))
    assert (labels, outcome.status) == ([], "diverged") and outcome.diverged_step in (1, 2)
    assert torch.equal(flat(list(model.parameters())), flat(list(tiny_model().parameters())))
    assert not (tmp_path / "a" / "labels.json").exists()
