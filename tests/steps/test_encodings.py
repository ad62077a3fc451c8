"""Runs with another project's tokens, and with options of objectives that reach into the step."""

from __future__ import annotations

import torch

from pipeline_lib.core.files import read_json, read_jsonl
from pipeline_lib.models.folder import load_model_folder
from tests.steps.test_methods import go, weights

MARKED = {
    "kind": "template",
    "template": "### Question: {prompt}\n",
    "system": None,
    "answer_prefix": "### Answer: ",
    "add_bos": False,
}


def test_a_run_has_its_own_prompt_and_tokens(original, data, tmp_path):
    """The prompt goes with the unlearned model; other tokens make another model from the first step on."""
    found = {}
    for encoding in ("exact", "soul_tofu"):
        changes = {"prompt": MARKED, "encoding": encoding}
        folder = go(tmp_path / encoding, data, original, "PO", unlearn_changes=changes)
        prompt = read_json(folder / "prompt.json")
        assert {name: prompt[name] for name in MARKED} == MARKED
        assert read_json(original / "prompt.json")["template"] != MARKED["template"]
        assert read_json(folder / "run.json")["training"].get("encoding", "exact") == encoding
        found[encoding] = read_jsonl(tmp_path / encoding / "training" / "steps.jsonl")[0]
    first, second = found.values()
    assert first["forget_loss"] != second["forget_loss"]  # refusals have no end token then


def test_hidden_ends_reach_the_loss(original, data, tmp_path):
    """This prompt holds the end token, which is made the padding: what comes after does not attend to it."""
    tokenizer = load_model_folder(original)[1]
    before = {**MARKED, "template": "{prompt} " + tokenizer.pad_token}
    losses = []
    for encoding in ("exact", "open_unlearning"):
        changes = {"prompt": before, "encoding": encoding}
        go(tmp_path / encoding, data, original, "GradDiff", unlearn_changes=changes)
        losses.append(read_jsonl(tmp_path / encoding / "training" / "steps.jsonl")[0]["retain_loss"])
    assert losses[0] != losses[1]


def test_rmu_on_all_weights_leaves_what_the_loss_does_not_reach(original, data, tmp_path):
    changes = {"layer": 0, "update_layers": "all"}
    folder = go(tmp_path, data, original, "RMU", **changes)
    before, after = (dict(load_model_folder(place)[0].named_parameters()) for place in (original, folder))
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert any("layers.0.self_attn" in name for name in moved)
    assert any("embed_tokens" in name for name in moved)
    assert not any("layers.1." in name for name in moved)


def test_kl_as_the_retain_term_starts_at_zero_divergence(original, data, tmp_path):
    """At the first step model and reference are the same, so the total is the forget term alone."""
    folder = go(tmp_path, data, original, "GradDiff", retain_loss_type="KL", forget_weight=0.5)
    first = read_jsonl(tmp_path / "training" / "steps.jsonl")[0]
    assert abs(first["loss"] + 0.5 * first["forget_loss"]) < 1e-5
    assert first["retain_loss"] > 0
    assert not torch.equal(weights(folder), weights(original))
