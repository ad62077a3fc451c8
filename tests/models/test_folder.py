"""A model folder gives back the same bits, is whole or absent, and says when there is nothing to load."""

from __future__ import annotations

import copy
import hashlib
import json

import pytest
import torch
from safetensors import safe_open

from pipeline_lib.core.errors import UserError
from pipeline_lib.models import folder as folder_module
from pipeline_lib.models.folder import load_model_folder, save_model_folder, weights_sha256

RUN = {"status": "ok", "seed": 3}


def bits(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def equal(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_bits_tokens_and_metadata_survive(tmp_path, scratch, template_format):
    run = save_model_folder(tmp_path / "m", scratch[0], scratch[1], template_format, RUN)
    model, tokenizer, prompt_format, loaded = load_model_folder(tmp_path / "m")
    assert equal(bits(model), bits(scratch[0]))
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert prompt_format == template_format
    others = [file for file in sorted((tmp_path / "m").glob("*.json*")) if file.name != "run.json"]
    others += (tmp_path / "m").glob("*.jinja")
    sealed = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in others}
    assert {"config.json", "generation_config.json", "prompt.json", "tokenizer.json"} < set(sealed)
    assert loaded == run
    assert run == {**RUN, "weights_sha256": weights_sha256(tmp_path / "m"), "files_sha256": sealed}
    assert "weights_sha256" not in RUN
    text = "<user>Who was born in 1956?<assistant>"
    assert tokenizer.encode(text) == scratch[1].encode(text)
    assert tokenizer.encode(text, split_special_tokens=True) == scratch[1].encode(
        text, split_special_tokens=True
    )
    assert {file.suffix for file in (tmp_path / "m").iterdir()} <= {".json", ".safetensors", ".jinja"}
    again = save_model_folder(tmp_path / "again", model, tokenizer, prompt_format, RUN)
    assert again["weights_sha256"] == run["weights_sha256"]


def test_chat_template_survives(tmp_path, scratch, template_format):
    tokenizer = copy.deepcopy(scratch[1])
    tokenizer.chat_template = "{{ messages[0]['content'] }}"
    save_model_folder(tmp_path / "m", scratch[0], tokenizer, template_format, RUN)
    assert load_model_folder(tmp_path / "m")[1].chat_template == tokenizer.chat_template


def test_bf16_weights_are_written_as_fp32_and_come_back_the_same(tmp_path, scratch, template_format):
    model = copy.deepcopy(scratch[0]).to(torch.bfloat16)
    save_model_folder(tmp_path / "m", model, scratch[1], template_format, RUN)
    with safe_open(tmp_path / "m" / "model.safetensors", "pt") as file:
        assert {file.get_slice(name).get_dtype() for name in file.keys()} == {"F32"}  # noqa: SIM118
        assert "lm_head.weight" not in file.keys()  # noqa: SIM118  # tied: stored once
    assert json.loads((tmp_path / "m" / "config.json").read_text())["dtype"] == "float32"
    assert equal(bits(load_model_folder(tmp_path / "m", torch.bfloat16)[0]), bits(model))
    assert model.dtype == torch.bfloat16  # saving leaves the model as it was


def test_shards(tmp_path, scratch, template_format):
    run = save_model_folder(
        tmp_path / "m", scratch[0], scratch[1], template_format, RUN, max_shard_size="40KB"
    )
    assert len(list((tmp_path / "m").glob("*.safetensors"))) > 1
    assert run["weights_sha256"] == weights_sha256(tmp_path / "m")
    assert equal(bits(load_model_folder(tmp_path / "m")[0]), bits(scratch[0]))


def test_hash_follows_the_weights(tmp_path, scratch, template_format):
    run = save_model_folder(tmp_path / "m", scratch[0], scratch[1], template_format, RUN)
    other = copy.deepcopy(scratch[0])
    other.get_input_embeddings().weight.data[7, 0] += 1e-4
    changed = save_model_folder(tmp_path / "m", other, scratch[1], template_format, {**RUN, "seed": 4})
    assert changed["weights_sha256"] != run["weights_sha256"]
    assert load_model_folder(tmp_path / "m")[3]["seed"] == 4  # replaced as a whole


def test_failed_save_leaves_the_old_folder(tmp_path, scratch, template_format, monkeypatch):
    save_model_folder(tmp_path / "m", scratch[0], scratch[1], template_format, RUN)

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(folder_module, "write_json", fail)
    with pytest.raises(OSError, match="disk full"):
        save_model_folder(tmp_path / "m", scratch[0], scratch[1], template_format, {**RUN, "seed": 4})
    assert load_model_folder(tmp_path / "m")[3]["seed"] == 3
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


def test_diverged_run_keeps_its_record_only(tmp_path, scratch, template_format):
    run = {"status": "diverged", "diverged_step": 12}
    assert (
        save_model_folder(tmp_path / "m", scratch[0], scratch[1], template_format, run)["weights_sha256"]
        is None
    )
    assert [file.name for file in (tmp_path / "m").iterdir()] == ["run.json"]
    with pytest.raises(UserError, match="diverged at step 12 and has no weights"):
        load_model_folder(tmp_path / "m")


@pytest.mark.parametrize(
    ("missing", "words"),
    [
        ("", "no such model folder. Run the step"),
        ("run.json", "run.json: no such file"),
        ("prompt.json", "prompt.json is missing after the model was written.*--forcerun"),
        ("tokenizer.json", "tokenizer.json is missing after the model was written.*--forcerun"),
        ("model.safetensors", "holds no weights"),
    ],
)
def test_incomplete_folder(tmp_path, scratch, template_format, missing, words):
    save_model_folder(tmp_path / "m", scratch[0], scratch[1], template_format, RUN)
    if missing:
        (tmp_path / "m" / missing).unlink()
    with pytest.raises(UserError, match=words):
        load_model_folder(tmp_path / "m" if missing else tmp_path / "absent")


def changed_in(name, old, new):
    def change(folder):
        text = (folder / name).read_text()
        assert old in text
        (folder / name).write_text(text.replace(old, new))

    return change


EDITS = {
    "prompt.json": changed_in("prompt.json", "<user>", "Q: "),
    "config.json": changed_in("config.json", '"rms_norm_eps": 1e-06', '"rms_norm_eps": 1e-01'),
    "generation_config.json": changed_in("generation_config.json", '"eos_token_id": 2', '"eos_token_id": 3'),
    "tokenizer_config.json": changed_in("tokenizer_config.json", "<eos>", "<user>"),
    "tokenizer.json": changed_in("tokenizer.json", '"individual_digits": true', '"individual_digits": false'),
}


@pytest.mark.parametrize("name", EDITS)
def test_a_file_that_was_edited_is_named(tmp_path, scratch, template_format, name):
    folder = tmp_path / "m"
    save_model_folder(folder, scratch[0], scratch[1], template_format, RUN)
    load_model_folder(folder)
    EDITS[name](folder)
    with pytest.raises(
        UserError, match=rf"{name} was changed after.*Put the file back.*--forcerun {folder}"
    ) as e:
        load_model_folder(folder)
    assert "elete" not in str(e.value)


@pytest.mark.parametrize("name", ["chat_template.jinja", "added_tokens.json", "tokenizer.model"])
def test_a_file_that_was_added_and_would_be_read_is_named(tmp_path, scratch, template_format, name):
    save_model_folder(tmp_path / "m", scratch[0], scratch[1], template_format, RUN)
    (tmp_path / "m" / "notes.md").write_text("what a user writes down is no part of the model")
    load_model_folder(tmp_path / "m")
    (tmp_path / "m" / name).write_text("{}")
    with pytest.raises(UserError, match=rf"{name} was added after"):
        load_model_folder(tmp_path / "m")


def test_other_weights_are_named(tmp_path, scratch, template_format):
    folder = tmp_path / "m"
    save_model_folder(folder, scratch[0], scratch[1], template_format, RUN)
    content = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(UserError, match=rf"its weights are not those.*--forcerun {folder}"):
        load_model_folder(folder)


def test_folders_of_earlier_versions_are_read(tmp_path, scratch, template_format):
    """Their run.json seals the weights alone."""
    save_model_folder(tmp_path / "m", scratch[0], scratch[1], template_format, RUN)
    run = json.loads((tmp_path / "m" / "run.json").read_text())
    del run["files_sha256"]
    (tmp_path / "m" / "run.json").write_text(json.dumps(run))
    assert equal(bits(load_model_folder(tmp_path / "m")[0]), bits(scratch[0]))
