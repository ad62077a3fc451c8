"""config/open-unlearning.yaml against OpenUnlearning's own configuration, which lies beside as data."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from pipeline_lib.study import load_suite
from tests.paths import REPO

THEIRS = json.loads((Path(__file__).parent / "open_unlearning.json").read_text())
OURS = {"DPO": "IdkDPO"}  # their experiment idk.yaml pairs answers with refusals
FORGET = 400  # records of forget10

# Their name -> ours: where the retain term's weight, and that of the forget term, are called otherwise.
NAMES = {"gamma": "forget_weight", "steering_coeff": "steering", "retain_loss_eps": "retain_bound"}
NAMES |= {"dual_step_size": "dual_step", "delta": "margin"}
DEFAULTS = {"forget_weight": 1.0, "retain_loss_type": "NLL", "dual_update_upon": "step"}


@pytest.fixture(scope="module")
def suite():
    return load_suite(REPO / "config" / "open-unlearning.yaml")


def settings_of(kind: str, theirs: dict[str, Any]) -> dict[str, Any]:
    """Their arguments under our names, and what stands for those that only we have."""
    given = {NAMES.get(name, name): value for name, value in theirs.items()}
    if kind == "GradDiff":
        given["gamma"] = given.pop("alpha")
    if kind == "PDU":
        assert given.pop("primal_dual") is True
        given["dual_start"] = given.pop("alpha")
        steps = math.ceil(FORGET / 32)
        given["dual_warmup"] = given.pop("dual_warmup_epochs") * steps
    if kind == "RMU":
        assert given.pop("trainable_params_regex") == [".*"]
        given |= {"update_layers": "all", "layer": int(given.pop("module_regex").rpartition(".")[2])}
    if kind == "CEU":
        given["skip_first_token"] = given.pop("ignore_first_n_answer_tokens") == 1
    masks = {"PDU": {"positions": "holding"}, "RMU": {"positions": "holding"}, "UNDIAL": {"positions": "all"}}
    return given | masks.get(kind, {})


@pytest.mark.parametrize("method", THEIRS["methods"])
def test_every_setting_is_theirs(suite, method):
    """No argument of theirs is left out; none of ours stands beside them but RMU's `direction_seed`."""
    runs = [run for run in suite.run_table() if run.method == OURS.get(method, method)]
    assert len(runs) == 1
    (run,), theirs = runs, THEIRS["methods"][method]
    own = run.objective.model_dump()
    assert own.pop("kind") == OURS.get(method, method)
    own.pop("direction_seed", None)
    wanted = settings_of(method, theirs["method_args"])
    first = {**DEFAULTS, "retain_loss_type": "EMBED_DIFF" if method == "RMU" else "NLL"}
    assert {**{name: first[name] for name in wanted if name in first}, **own} == wanted

    args = theirs["args"]
    assert run.unlearn.epochs == args["num_train_epochs"]
    assert run.unlearn.batch_size == args["per_device_train_batch_size"]
    assert run.unlearn.accumulation == args["gradient_accumulation_steps"]
    assert run.unlearn.warmup == pytest.approx(args["warmup_epochs"] / args["num_train_epochs"])
    assert (run.unlearn.compute == "bf16") == args["bf16"]
    assert run.optimizer_settings.kind == "adamw" and "adamw" in args["optim"]
    assert run.optimizer_settings.learning_rate == args["learning_rate"]
    assert run.optimizer_settings.weight_decay == args["weight_decay"]
    # what transformers' trainer takes where nothing is said
    assert [getattr(run.unlearn, name) for name in ("decay", "max_grad_norm")] == ["linear", 1.0]
    assert [getattr(run.optimizer_settings, name) for name in ("beta1", "beta2", "eps")] == [0.9, 0.999, 1e-8]


def test_no_run_is_without_its_configuration(suite):
    assert {run.method for run in suite.run_table()} == {OURS.get(name, name) for name in THEIRS["methods"]}


def test_prompts_and_data_are_theirs(suite):
    (model,) = suite.models.values()
    prompt = model.prompt
    assert prompt.kind == "chat"
    assert prompt.system == THEIRS["template_args"]["system_prompt"]
    assert prompt.date == THEIRS["template_args"]["date_string"] == "10 Apr 2025"
    assert model.max_length == THEIRS["max_length"]
    assert suite.tasks["tofu"].forget == THEIRS["forget_split"]
    assert suite.evaluation.max_new_tokens == THEIRS["max_new_tokens"]
    assert suite.finetune.encoding == suite.unlearn.encoding == "open_unlearning"


def test_the_original_is_trained_by_their_recipe(suite):
    found, theirs = suite.finetune, THEIRS["finetune"]
    assert found.epochs == theirs["num_train_epochs"]
    assert found.learning_rate == theirs["learning_rate"] and found.weight_decay == theirs["weight_decay"]
    size = theirs["per_device_train_batch_size"] * theirs["gradient_accumulation_steps"]
    assert found.batch_size * found.accumulation == size
    assert found.warmup == pytest.approx(theirs["warmup_epochs"] / theirs["num_train_epochs"])
