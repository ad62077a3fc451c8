"""Folders that cannot be loaded: each cause has its own message, with what was found and what to do."""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from pipeline_lib.core.errors import UserError
from pipeline_lib.models.checks import check_folder
from tests.models.conftest import from_folder

Damage = Callable[[Path], object]
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 269060552\n"
PAGE = b"<!DOCTYPE html>\n<html><head><title>Sign in</title></head></html>"
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
EMBEDDING = "model.embed_tokens.weight"
GATE = "model.layers.0.mlp.gate_proj.weight"


def written(name: str, content: bytes | str) -> Damage:
    data = content.encode() if isinstance(content, str) else content
    return lambda folder: (folder / name).write_bytes(data)


def removed(*names: str) -> Damage:
    return lambda folder: [(folder / name).unlink() for name in names]


def both(*damages: Damage) -> Damage:
    return lambda folder: [damage(folder) for damage in damages]


def config(**changes: Any) -> Damage:
    """config.json with other values; None takes a key out."""

    def edit(folder: Path) -> None:
        content = {**json.loads((folder / "config.json").read_text()), **changes}
        kept = {key: value for key, value in content.items() if value is not None}
        (folder / "config.json").write_text(json.dumps(kept))

    return edit


def tensors(change: Callable[[dict[str, torch.Tensor]], object]) -> Damage:
    """The weights, changed in a dictionary."""

    def edit(folder: Path) -> None:
        content = load_file(folder / WEIGHTS)
        change(content)
        save_file({key: value.contiguous() for key, value in content.items()}, folder / WEIGHTS)

    return edit


def cut(folder: Path) -> None:
    content = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(content[: len(content) // 2])


def header(change: Callable[[dict[str, Any]], object]) -> Damage:
    """The header of the weights, changed."""

    def edit(folder: Path) -> None:
        content = (folder / WEIGHTS).read_bytes()
        (length,) = struct.unpack("<Q", content[:8])
        entries = json.loads(content[8 : 8 + length])
        change(entries)
        text = json.dumps(entries).encode()
        (folder / WEIGHTS).write_bytes(struct.pack("<Q", len(text)) + text + content[8 + length :])

    return edit


def sharded(folder: Path) -> None:
    from transformers import AutoModelForCausalLM

    AutoModelForCausalLM.from_pretrained(folder).save_pretrained(folder, max_shard_size="40KB")
    (folder / WEIGHTS).unlink(missing_ok=True)


def without_a_shard(folder: Path) -> None:
    sharded(folder)
    sorted(folder.glob("model-*.safetensors"))[1].unlink()


def index_names_a_stranger(folder: Path) -> None:
    sharded(folder)
    index = json.loads((folder / INDEX).read_text())
    index["weight_map"]["model.layers.9.mlp.up_proj.weight"] = index["weight_map"][EMBEDDING]
    (folder / INDEX).write_text(json.dumps(index))


def shards_share_a_tensor(folder: Path) -> None:
    sharded(folder)
    last = sorted(folder.glob("model-*.safetensors"))[-1]
    first = load_file(sorted(folder.glob("model-*.safetensors"))[0])
    name = next(iter(first))
    save_file({**load_file(last), name: first[name]}, last)


def one_level_down(folder: Path) -> None:
    inner = folder / "checkpoint-500"
    inner.mkdir()
    for file in list(folder.iterdir()):
        if file.is_file():
            file.rename(inner / file.name)


def only(name: str) -> Damage:
    """The weights under another name, the config.json gone with them where it is of another library."""
    return lambda folder: (folder / WEIGHTS).rename(folder / name)


def no_end_token(folder: Path) -> None:
    content = json.loads((folder / "tokenizer_config.json").read_text())
    del content["eos_token"]
    (folder / "tokenizer_config.json").write_text(json.dumps(content))


def more_tokens_than_rows(folder: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(["another"])
    tokenizer.save_pretrained(folder)


def broken_number(value: float) -> Damage:
    def change(content: dict[str, torch.Tensor]) -> None:
        content[GATE][3, 1] = value

    return tensors(change)


def a_whole_number(name: str) -> Damage:
    return tensors(lambda content: content.update({name: (content[name] * 10).to(torch.int8)}))


def packed(content: dict[str, torch.Tensor]) -> None:
    content[GATE.replace("weight", "qweight")] = content.pop(GATE).to(torch.int32)


def named(before: str) -> Damage:
    return tensors(lambda c: [c.update({before + key: c.pop(key)}) for key in list(c)])


def generation(**content: Any) -> Damage:
    return written("generation_config.json", json.dumps(content))


UNFIT = "config.json (does not fit|describes no model)"
CASES: dict[str, tuple[Damage, str]] = {
    "no folder": (shutil.rmtree, "no such folder. Check the path"),
    # what is not there
    "no config.json": (
        removed("config.json"),
        "config.json is missing. Copy the one that belongs to model.safetensors into the folder.$",
    ),
    "shards without config.json": (both(sharded, removed("config.json")), f"Copy the one .* {INDEX}"),
    "shards without a list": (both(sharded, removed(INDEX)), f"shards without {INDEX}.*Copy that file too"),
    "one level down": (one_level_down, r"config.json is missing; there is one in checkpoint-500"),
    "no tokenizer": (removed("tokenizer.json"), "holds no tokenizer.*Copy"),
    "no weights": (removed(WEIGHTS), "holds no weights; expected model.safetensors"),
    "a shard is missing": (without_a_shard, r"model-00002-of-\d+\.safetensors is missing.*again"),
    "no end token": (no_end_token, "no end token"),
    "another model's tokenizer": (more_tokens_than_rows, "do not belong together"),
    # what stands in for a file
    "pointer: weights": (written(WEIGHTS, LFS), r"model.safetensors is a pointer of git-lfs.*git lfs pull"),
    "pointer: config": (written("config.json", LFS), r"config.json is a pointer of git-lfs"),
    "pointer: tokenizer": (written("tokenizer.json", LFS), r"tokenizer.json is a pointer of git-lfs"),
    "a web page": (written(WEIGHTS, PAGE), r"model.safetensors is a web page.*log in"),
    "an empty file": (written("tokenizer_config.json", b""), "tokenizer_config.json is empty"),
    # the weights' files
    "cut": (cut, r"model.safetensors is cut: it has only \d+ of \d+ bytes"),
    "too long": (
        lambda folder: written(WEIGHTS, (folder / WEIGHTS).read_bytes() + b"12345")(folder),
        r"not what its header describes",
    ),
    "no header": (written(WEIGHTS, b"\x80\x02}q\x00." * 400), "no readable header of safetensors"),
    "a header that is no JSON": (written(WEIGHTS, struct.pack("<Q", 8) + b"not json"), "no readable header"),
    "a header without end": (written(WEIGHTS, struct.pack("<Q", 1 << 62) + b"{}"), "no readable header"),
    "a deep header": (
        written(WEIGHTS, struct.pack("<Q", 400_000) + b'{"a":' * 80_000),
        "no readable header",
    ),
    "shapes that are not the bytes'": (
        header(lambda entries: entries[GATE].update(shape=[1, 1])),
        "no readable header",
    ),
    "two shards, one tensor": (shards_share_a_tensor, "both hold"),
    "an index of another model": (index_names_a_stranger, r"says that 'model.layers.9.*does not hold it"),
    "not a number": (broken_number(float("nan")), rf"{GATE} holds 1 numbers that are not finite"),
    "infinite": (broken_number(float("-inf")), rf"{GATE} holds 1 numbers that are not finite"),
    "int8 weights": (a_whole_number(GATE), rf"{GATE} in model.safetensors holds numbers of type I8"),
    "uint8 embedding": (
        tensors(lambda c: c.update({EMBEDDING: torch.ones(c[EMBEDDING].shape, dtype=torch.uint8)})),
        "type U8; expected",
    ),
    "8-bit floats": (
        tensors(lambda c: c.update({GATE: c[GATE].to(torch.float8_e4m3fn)})),
        "it is quantised.*unquantised original",
    ),
    "packed weights": (tensors(packed), r"it is quantised \(model.layers.0.mlp.gate_proj.qweight"),
    "only pickles": (only("pytorch_model.bin"), "pytorch_model.bin.*never loaded.*Convert"),
    "pickles in shards": (only("pytorch_model-00001-of-00002.bin"), "are pickles.*Convert"),
    "TensorFlow": (only("tf_model.h5"), "weights for TensorFlow.*Convert"),
    "Flax": (only("flax_model.msgpack"), "weights for Flax.*Convert"),
    "ONNX": (only("model.onnx"), "weights for ONNX"),
    "Meta's own": (
        both(only("consolidated.00.pth"), removed("config.json"), written("params.json", "{}")),
        r"first release.*consolidated.00.pth.*convert_llama",
    ),
    "GGUF": (only("model-q4.gguf"), r"GGUF files.*source: gguf"),
    "another name": (only("weights.safetensors"), "safetensors under other names"),
    "parts of a process each": (
        lambda folder: shutil.copy(folder / WEIGHTS, folder / "shard-00000-model-00001-of-00002.safetensors"),
        "checkpoint in parts",
    ),
    # adapters
    "an adapter alone": (
        both(
            only("adapter_model.safetensors"),
            removed("config.json"),
            written("adapter_config.json", '{"base_model_name_or_path": "some/base"}'),
        ),
        r"folder of an adapter \(adapter_config.json, trained on some/base\).*merge_and_unload",
    ),
    "an adapter's weights alone": (
        both(only("adapter_model.safetensors"), removed("config.json")),
        "folder of an adapter.*merge_and_unload",
    ),
    "an adapter beside the weights": (
        written("adapter_config.json", "{}"),
        "holds an adapter.*beside the weights.*merge_and_unload",
    ),
    # config.json
    "empty config": (written("config.json", "{}"), "names no architecture.*empty config.json"),
    "config is a list": (written("config.json", "[]"), "config.json must hold an object"),
    "config is no JSON": (written("config.json", "{'a': 1}"), "config.json.*not valid JSON.*published with"),
    "a deep config": (
        written("config.json", '{"a":' * 5000 + "1" + "}" * 5000),
        "config.json.*nested too deeply",
    ),
    "a key twice": (
        written("config.json", '{"model_type": "llama", "model_type": "gpt2"}'),
        "config.json.*twice",
    ),
    "a long number": (config(vocab_size=10**400), "config.json"),
    "no model_type": (config(model_type=None), "names no architecture: expected `model_type`"),
    "model_type is a number": (config(model_type=7), "names no architecture.*found 7"),
    "more layers": (config(num_hidden_layers=3), "config.json says 3 layers, and the files hold 2"),
    "fewer layers": (config(num_hidden_layers=1), "config.json says 1 layers, and the files hold 2"),
    "a million layers": (config(num_hidden_layers=10**6), "says 1000000 layers, and the files hold 2"),
    "another width": (config(intermediate_size=40), rf"{GATE} is \(\d+, 32\) in the files and \(40, 32\) by"),
    "an absurd width": (config(hidden_size=10**9), "says hidden_size 1000000000, and no weight"),
    "an absurd vocabulary": (config(vocab_size=10**12), "says vocab_size 1000000000000, and no weight"),
    "a negative size": (config(hidden_size=-32), "says hidden_size -32; expected a whole number above 0"),
    "a size in words": (config(hidden_size="32"), "says hidden_size '32'; expected a whole number"),
    "an absurd context": (config(max_position_embeddings=10**15), "expected at most"),
    "heads that do not divide": (config(num_attention_heads=5), UNFIT),
    "an activation that is none": (config(hidden_act="evil"), UNFIT),
    "bitsandbytes": (
        config(quantization_config={"load_in_4bit": True, "quant_method": "bitsandbytes"}),
        r"quantised \(bitsandbytes, 4 bits: `quantization_config`.*unquantised original",
    ),
    "old bitsandbytes": (config(quantization_config={"load_in_8bit": True}), r"\(bitsandbytes, 8 bits"),
    "GPTQ": (config(quantization_config={"quant_method": "gptq", "bits": 4}), r"\(GPTQ, 4 bits"),
    "AWQ": (config(quantization_config={"quant_method": "awq", "bits": 4}), r"\(AWQ, 4 bits"),
    "fp8": (config(quantization_config={"quant_method": "fp8"}), r"\(8-bit floats"),
    "compressed-tensors": (config(compression_config={"quant_method": "compressed-tensors"}), "quantised"),
    "MLX": (config(quantization={"group_size": 64, "bits": 4}), r"quantised \(4 bits"),
    "code of its own": (
        config(model_type="brand_new", auto_map={"AutoModelForCausalLM": "code.Model"}),
        "brand_new, is not one that the installed transformers knows.*never run",
    ),
    "sentence embeddings": (written("modules.json", "[]"), "turns texts into vectors"),
    # weights that are not the model's
    "a weight is missing": (tensors(lambda content: content.pop(GATE)), rf"1 weights are not in.*{GATE}"),
    "compiled": (named("_orig_mod."), r"begin with '_orig_mod\.'.*inside it with"),
    "wrapped by peft": (named("base_model.model."), r"begin with 'base_model\.model\.'.*merge_and_unload"),
    "a factor of zero": (
        config(rope_scaling={"rope_type": "linear", "factor": 0.0, "rope_theta": 1e4}, rope_parameters=None),
        "inv_freq, which is computed from config.json.*a factor of 0",
    ),
    "an end token in words": (
        generation(eos_token_id="</s>"),
        "says eos_token_id '</s>'; expected the number",
    ),
    "end tokens in words": (generation(eos_token_id=[1, "2"]), "expected the number of a token, or a list"),
    "a further head": (
        tensors(lambda content: content.update({"v_head.summary.weight": torch.ones(1, 32)})),
        r"files hold 1 weights that the architecture has no place for: v_head.summary.weight",
    ),
    "adapters in the weights": (
        tensors(lambda c: c.update({"model.layers.0.self_attn.q_proj.lora_A.weight": torch.ones(2, 32)})),
        "no place for.*lora_A.*adapters merged",
    ),
    # the tokenizer
    "a broken tokenizer": (written("tokenizer.json", "{"), "tokenizer cannot be loaded.*Copy"),
    "tokenizer_config is a list": (written("tokenizer_config.json", "[]"), "tokenizer_config.json must hold"),
}


@pytest.mark.parametrize("case", CASES)
def test_each_damage_has_its_message(folder: Path, case: str) -> None:
    damage, words = CASES[case]
    damage(folder)
    with pytest.raises(UserError, match=rf"(?s){words}") as error:
        from_folder(folder)
    assert str(error.value).startswith(str(folder))
    assert "elete" not in str(error.value)


ONLY_WHEN_LOADED = (
    "a broken tokenizer", "a factor of zero", "a further head", "compiled", "wrapped by peft",
    "a weight is missing", "adapters in the weights", "another width",
    "an activation that is none", "another model's tokenizer", "heads that do not divide", "infinite",
    "no end token", "not a number",
)  # fmt: skip


@pytest.mark.parametrize("case", [case for case in CASES if case not in ONLY_WHEN_LOADED])
def test_most_are_seen_without_reading_a_weight(folder: Path, case: str) -> None:
    damage, words = CASES[case]
    damage(folder)
    with pytest.raises(UserError, match=rf"(?s){words}"):
        check_folder(folder, str(folder))


@pytest.mark.parametrize(
    "harmless",
    [
        tensors(lambda c: c.update({"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(4)})),
        tensors(lambda content: content.update({"model.position_ids": torch.arange(9)[None]})),
        tensors(lambda content: content.update({key: value.half() for key, value in content.items()})),
        tensors(lambda content: content.update({key: value.double() for key, value in content.items()})),
        config(dtype=None, torch_dtype=None),
        config(quantization_config={}),
        written("README.txt", b""),
        written("pytorch_model.bin", LFS),
        written("consolidated.safetensors", LFS),
    ],
)  # fmt: skip
def test_what_does_no_harm_is_let_through(folder: Path, harmless: Damage) -> None:
    harmless(folder)
    model, _, origin = from_folder(folder)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert list(origin["sha256"]) == [WEIGHTS]


def test_only_files_that_were_read_are_hashed(folder: Path) -> None:
    shutil.copy(folder / WEIGHTS, folder / "adapter_model.safetensors")
    shutil.copy(folder / WEIGHTS, folder / "consolidated.safetensors")
    assert list(from_folder(folder)[2]["sha256"]) == [WEIGHTS]
    sharded(folder)
    shards = json.loads((folder / INDEX).read_text())["weight_map"].values()
    found = from_folder(folder)[2]["sha256"]
    assert set(found) == set(shards) and len(found) > 1


def test_an_output_embedding_of_its_own_stays_one(folder: Path, tmp_path: Path) -> None:
    """Its config.json says that output and input share their weights; the files hold two."""
    head = torch.linspace(-1, 1, load_file(folder / WEIGHTS)[EMBEDDING].numel())
    tensors(lambda c: c.update({"lm_head.weight": head.view_as(c[EMBEDDING])}))(folder)
    config(tie_word_embeddings=True)(folder)
    model, _, _ = from_folder(folder)
    assert torch.equal(model.lm_head.weight.flatten(), head)
    model.tie_weights()  # as adapters and wrappers of a model do
    assert torch.equal(model.lm_head.weight.flatten(), head)
    model.save_pretrained(tmp_path / "copy")
    written = json.loads((tmp_path / "copy" / "config.json").read_text())
    assert written["tie_word_embeddings"] is False


def test_a_shared_embedding_stays_shared(folder: Path) -> None:
    model, _, _ = from_folder(folder)
    assert model.lm_head.weight is model.model.embed_tokens.weight and model.config.tie_word_embeddings
